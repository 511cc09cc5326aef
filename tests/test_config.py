"""The config: from files or text the same settings, and every error names the setting."""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunit.config import Config, all_fields, file_settings, find_field, preset_names, read_config
from tunit.config.config import section_types
from tunit.config.sections import LossConfig
from tunit.errors import ConfigError

FIELDS = list(all_fields())


def kind_of(name: str) -> Any:
    section = section_types()[all_fields()[name][0]]
    return typing.get_type_hints(section)[name]


def metadata(name: str) -> Any:
    return all_fields()[name][1].metadata


def kinds_of(name: str) -> tuple[Any, ...]:
    """The types of the value's parts: several for a tuple, otherwise one."""
    kind = kind_of(name)
    return typing.get_args(kind) if typing.get_origin(kind) is tuple else (kind,)


def is_number(name: str) -> bool:
    return not {str, bool} & {*kinds_of(name)}


def is_switch(name: str) -> bool:
    return kinds_of(name) == (bool,)


def candidates(name: str) -> list[Any]:
    """Values that the field's type and range allow."""
    low, high, choices = (metadata(name)[k] for k in ("low", "high", "choices"))
    if choices:
        return list(choices)
    if is_switch(name):
        return [True, False]
    if not is_number(name):
        return [Config().value(name), "cpu", 'odd "text" \\ of\ttabs,\nlines and \x7f, ü, \U0001f600']
    whole = [
        v for v in (0, 1, 2, 3, 7, 32, 64, 255, 1000) if low <= v <= (math.inf if high is None else high)
    ]
    between = [v for v in (0.015625, 0.3, 1 / 3, 1e-7, 2.5, 1e22) if low <= v <= (high or math.inf)]
    kind = kinds_of(name)[0]
    parts: list[Any] = list(whole)
    if kind is float:
        parts = [float(v) for v in whole] + between
    elif isinstance(kind, types.UnionType):
        parts = [*whole, 0.0, 0.25, 1.0]
    count = len(kinds_of(name))
    if typing.get_origin(kind_of(name)) is not tuple:
        return parts
    return [(p,) * count for p in parts] + [tuple(sorted(parts))[:count]]


def as_text(value: Any) -> str:
    return ",".join(as_text(v) for v in value) if isinstance(value, tuple) else str(value)


def accepted(name: str, value: Any) -> Config | None:
    try:
        return Config().with_overrides({name: value})
    except ConfigError as error:
        # Some values have the right type and range but contradict others: the message must name the field.
        assert name in str(error)
        return None


# ---- every field ----


def test_setting_names_are_unique_over_all_sections() -> None:
    sections = section_types().values()
    assert len(FIELDS) == sum(len(dataclasses.fields(section)) for section in sections)
    assert all(metadata(name)["help"] for name in FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_overrides_from_text_and_from_values_are_the_same(name: str) -> None:
    defaults, changed = {other: Config().value(other) for other in FIELDS}, 0
    for value in [defaults[name], *candidates(name)]:
        config = accepted(name, value)
        assert config == accepted(name, as_text(value)), value
        if config is None:
            continue
        found = config.value(name)
        assert found == value
        assert type(found) is type(value)
        changed += found != defaults[name]
        for other in FIELDS:
            assert other == name or config.value(other) == defaults[other]
        section = all_fields()[name][0]
        assert config == accepted(f"{section}.{name}", value) == accepted(name.replace("_", "-"), value)
    assert changed


@pytest.mark.parametrize("name", FIELDS)
def test_toml_output_is_read_back(name: str, tmp_path: Path) -> None:
    for i, value in enumerate([Config().value(name), *candidates(name)]):
        config = accepted(name, value)
        if config is not None:
            (tmp_path / f"{i}.toml").write_text(config.to_toml(), "utf-8", newline="\n")
            assert read_config(str(tmp_path / f"{i}.toml")) == config


@pytest.mark.parametrize("name", [n for n in FIELDS if is_number(n)])
def test_ranges_include_their_limits_and_nothing_beyond(name: str) -> None:
    low, high = metadata(name)["low"], metadata(name)["high"]
    assert low is not None, "a number needs a lower limit"
    wrap = (
        (lambda v: (v,) * len(kinds_of(name))) if typing.get_origin(kind_of(name)) is tuple else (lambda v: v)
    )
    for end in (low, high):
        if end is not None:
            config = accepted(name, wrap(end))
            assert config is None or config.value(name) == wrap(end)
    fractions = int not in kinds_of(name)
    wrong = [low - 1, *([low - 1e-9] if fractions else [])]
    if high is not None:
        wrong += [high + 1, *([high + 1e-6] if fractions else [])]
    for value in wrong:
        for given in (wrap(value), as_text(wrap(value))):
            with pytest.raises(ConfigError, match=name) as error:
                Config().with_overrides({name: given})
            assert f"at least {low}" in str(error.value) or f"from {low}" in str(error.value)


def refused(name: str, values: Iterable[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name):
            Config().with_overrides({name: value})


@pytest.mark.parametrize("name", [n for n in FIELDS if is_number(n)])
def test_other_types_are_refused(name: str) -> None:
    refused(name, (True, "zebra", "", None, "1;2", [], {"a": 1}, (1, 2, 3, 4, 5)))


@pytest.mark.parametrize("name", [n for n in FIELDS if is_number(n)])
def test_numbers_are_finite(name: str) -> None:
    count = len(kinds_of(name))
    wrong = [math.nan, math.inf, -math.inf] if count == 1 else [(x,) * count for x in (math.nan, math.inf)]
    refused(name, (*wrong, *map(as_text, wrong)))


@pytest.mark.parametrize("name", [n for n in FIELDS if kinds_of(n)[0] is int])
def test_integers_cannot_be_fractions(name: str) -> None:
    parts = (64.0, "64.0", "1e3", 0.5)
    count = len(kinds_of(name))
    refused(name, parts if count == 1 else [(part,) * count for part in parts])


@pytest.mark.parametrize("name", [n for n in FIELDS if str in kinds_of(n)])
def test_text_settings_refuse_numbers(name: str) -> None:
    refused(name, (3, 0.5, True, None, ["text"]))


@pytest.mark.parametrize("name", [n for n in FIELDS if is_switch(n)])
def test_booleans_are_true_or_false_or_the_0_and_1_of_earlier_versions(name: str) -> None:
    for words, expected in (((True, "true", "True", 1, "1"), True), ((False, "false", 0, "0"), False)):
        for given in words:
            assert Config().with_overrides({name: given}).value(name) is expected
    refused(name, ("yes", 2, -1, 0.5, 1.0, None, "", [], "truefalse"))


@pytest.mark.parametrize("name", [n for n in FIELDS if metadata(n)["choices"]])
def test_choices_list_the_valid_values(name: str) -> None:
    choices = list(metadata(name)["choices"])
    assert Config().value(name) in choices
    misspelt = choices[-1][:-1] + "x"
    with pytest.raises(ConfigError, match=name) as error:
        Config().with_overrides({name: misspelt})
    assert all(choice in str(error.value) for choice in choices)
    assert f"did you mean {choices[-1]!r}" in str(error.value)


@pytest.mark.parametrize("name", FIELDS)
def test_for_misspelt_names_the_nearest_is_suggested(name: str) -> None:
    misspelt = name + "q"
    with pytest.raises(ConfigError, match=misspelt) as error:
        find_field(misspelt)
    assert f"did you mean {name!r}" in str(error.value)


# ---- rules for several values ----


@pytest.mark.parametrize("size", [0, 32, 64, 128, 256, 512])
def test_image_sizes_are_powers_of_two(size: int) -> None:
    assert Config().with_overrides({"image_size": size}).data.image_size == size


def test_an_image_size_from_the_pictures_is_written_as_auto() -> None:
    chosen = Config().with_overrides({"image_size": "auto"})
    assert chosen == Config().with_overrides({"image_size": "0"})
    assert 'image_size = "auto"' in chosen.to_toml()


@pytest.mark.parametrize("name", ["image_size", "guide_image_size"])
@pytest.mark.parametrize("size", [1, 16, 31, 33, 96, 100, 127, -64])
def test_other_image_sizes_are_refused(name: str, size: int) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is {size}"):
        Config().with_overrides({name: size})


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("hue", "foo", "hue is 'foo': take auto or a number from 0 to 0.5"),
        ("neighbours_from", "foo", "neighbours_from is 'foo': take auto or a number from 0 to 1"),
        ("r1_weight", "foo", "r1_weight is 'foo': take auto or a number of at least 0"),
        ("domains", "autos", "domains is 'autos': take auto or a whole number from 0 to 100000"),
        ("image_size", "big", "image_size is 'big': take auto or a whole number from 0 to 4096"),
        ("crop_area", "auto 1", "crop_area is 'auto 1': take auto or 2 numbers from 0 to 4"),
        ("domains", "2.5", "domains is '2.5': take auto or a whole number from 0 to 100000"),
        (
            "hue",
            "0,1",
            "hue is '0,1': take auto or a number from 0 to 0.5, without commas (a decimal point is .)",
        ),
    ],
)
def test_a_setting_that_takes_a_word_names_it_in_its_error(name: str, given: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config().with_overrides({name: given})
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", ["crop_area", "crop_aspect"])
def test_pairs_must_be_in_order(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is \(1.1, 0.9\)"):
        Config().with_overrides({name: (1.1, 0.9)})


def test_crops_of_no_area_mean_chosen_from_the_pictures() -> None:
    chosen = Config().with_overrides({"crop_area": "auto"})
    assert chosen.augment.crop_area == (0, 0)
    assert (
        chosen
        == Config().with_overrides({"crop_area": (0, 0)})
        == Config().with_overrides({"crop_area": "0 0"})
    )
    assert 'crop_area = "auto"' in chosen.to_toml()
    with pytest.raises(ConfigError, match=r"crop_area is \(0, 0.7\): give numbers above 0"):
        Config().with_overrides({"crop_area": (0, 0.7)})


def test_a_config_checks_itself_however_it_is_created() -> None:
    with pytest.raises(ConfigError, match="domains"):
        Config(networks=dataclasses.replace(Config().networks, domains=-1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().data.image_size = 64  # type: ignore[misc]


def test_overrides_do_not_change_the_original() -> None:
    config = Config()
    changed = config.with_overrides({"domains": 3, "image_size": 64})
    assert (config.networks.domains, changed.networks.domains, changed.data.image_size) == (10, 3, 64)
    assert changed.with_overrides({}) == changed


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("steps", "1,000", "steps is '1,000': take a whole number, without commas (a decimal point is .)"),
        ("steps", "1e3", "steps is '1e3': take a whole number"),
        ("steps", 1.5, "steps is 1.5: take a whole number"),
        ("temperature", "0,1", "temperature is '0,1': take a number, without commas (a decimal point is .)"),
        ("temperature", "low, high", "temperature is 'low, high': take a number"),
        ("guide_from", 3, "guide_from is 3: take text"),
    ],
)
def test_what_is_no_number_is_refused_in_plain_words(name: str, given: object, sentence: str) -> None:
    """Without what Python says of it, such as "invalid literal for int() with base 10"."""
    with pytest.raises(ConfigError) as error:
        Config().with_overrides({name: given})
    assert str(error.value) == sentence


def test_section_of_another_field_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"losses\.image_size"):
        Config().with_overrides({"losses.image_size": 64})


@pytest.mark.parametrize("text", ["0.3, 0.9", "0.3 0.9", "0.3,0.9", " 0.3 ,  0.9 "])
def test_pairs_from_text(text: str) -> None:
    assert Config().with_overrides({"guide_betas": text}).optimisers.guide_betas == (0.3, 0.9)


@pytest.mark.parametrize("text", ["0.3", "0.3,0.9,0.9"])
def test_pairs_need_two_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"guide_betas is .*: take 2 numbers$"):
        Config().with_overrides({"guide_betas": text})


# ---- shares of steps ----

PHASES = [n for n in FIELDS if isinstance(kinds_of(n)[0], types.UnionType)]


def test_shares_are_relative_to_all_steps() -> None:
    config = Config().with_overrides({"steps": 1001, "guide_only_until": 0.25, "average_from": "0.5"})
    resolved = config.resolved_schedule().schedule
    assert (resolved.guide_only_until, resolved.average_from) == (250, 500)
    assert isinstance(resolved.guide_only_until, int)
    assert config.schedule.guide_only_until == 0.25


@pytest.mark.parametrize("name", PHASES)
def test_1_is_a_step_and_1_point_0_is_all_steps(name: str) -> None:
    for given, expected in ((1, 1), ("1", 1), (1.0, 500), ("1.0", 500), (0.0, 0), ("0", 0), (0, 0)):
        config = Config().with_overrides({"steps": 500, name: given})
        assert config.resolved_schedule().value(name) == expected, given


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("text", ["1000", "1_000", "+1000", " 1000 "])
def test_integer_steps_are_not_shares(name: str, text: str) -> None:
    """TOML and Python write 65_000: it must not become 65,000 times all steps."""
    found = Config().with_overrides({name: text}).value(name)
    assert (found, type(found)) == (1000, int)


def test_a_resolved_schedule_does_not_change() -> None:
    resolved = Config().with_overrides({"guide_only_until": 0.5}).resolved_schedule()
    assert resolved.resolved_schedule() == resolved
    assert Config().resolved_schedule() == Config()


# ---- files ----


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_parses(name: str) -> None:
    config = read_config(name)
    config.resolved_schedule()
    assert isinstance(config, Config)


def test_there_is_a_paper_preset_with_the_papers_values() -> None:
    assert "paper" in preset_names()
    config = read_config("paper")
    assert config == Config()
    o, w, s = config.optimisers, config.losses, config.schedule
    assert (o.batch_size, o.guide_rate, o.guide_betas, o.guide_weight_decay) == (32, 1e-4, (0.9, 0.999), 1e-3)
    assert (o.generator_rate, o.discriminator_rate, o.rmsprop_alpha, o.rmsprop_eps) == (
        1e-4,
        1e-4,
        0.99,
        1e-8,
    )
    assert (o.weight_decay, o.average_decay, o.queue_length) == (1e-4, 0.999, 1024)
    assert (w.mutual_information_weight, w.guide_style_weight, w.adversarial_weight) == (5, 1, 1)
    assert (w.reconstruction_weight, w.generator_style_weight, w.r1_weight) == (0.1, 0.01, 10)
    assert (w.temperature, w.joint_guide_factor, w.classification_weight) == (0.07, 0.1, 5)
    assert (s.steps, s.guide_only_until, s.average_from) == (200_000, 65_000, 66_000)
    assert (config.networks.domains, config.networks.style_width, config.data.image_size) == (10, 128, 128)


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


def test_toml_output_has_every_setting() -> None:
    """The settings of its method and the shared ones. SEMIT uses every section that tunit has."""
    table = tomllib.loads(Config().with_overrides({"method": "semit"}).to_toml())
    assert [name for section in table.values() for name in section] == FIELDS
    shared = tomllib.loads(Config().to_toml())
    assert table.keys() - shared.keys() == {"funit", "semit"}
    assert all(table[section].keys() == values.keys() for section, values in shared.items())


def test_a_file_contains_only_its_differences(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", "[data]\nimage_size = 64\n[losses]\nr1_weight = 5\n")
    assert read_config(path) == Config().with_overrides({"image_size": 64, "r1_weight": 5.0})
    assert isinstance(read_config(path).losses.r1_weight, float)


def test_base_files_are_read_first(tmp_path: Path) -> None:
    a = write(tmp_path, "a.toml", 'base = "paper"\n[networks]\ndomains = 3\n[data]\nimage_size = 64\n')
    b = write(tmp_path, "b.toml", f'base = "{a}"\n[networks]\ndomains = 4\n')
    c = write(tmp_path, "c.toml", f'base = "{b}"\n[losses]\nr1_weight = 1.0\n')
    expected = Config().with_overrides({"domains": 4, "image_size": 64, "r1_weight": 1.0})
    assert read_config(c) == expected


def test_a_base_is_the_file_beside_the_preset_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, domains in (("configs", 3), ("elsewhere", 4)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "common.toml", f"[networks]\ndomains = {domains}\n")
    write(tmp_path / "configs", "mine.toml", 'base = "common.toml"\n[losses]\nr1_weight = 1.0\n')
    write(tmp_path / "configs", "lost.toml", 'base = "../configs/only_elsewhere.toml"\n')
    write(tmp_path / "configs", "round.toml", 'base = "../configs/round.toml"\n')
    write(tmp_path / "elsewhere", "only_elsewhere.toml", "")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_config("../configs/mine.toml") == Config().with_overrides({"domains": 3, "r1_weight": 1.0})
    assert file_settings("../configs/mine.toml") == {"networks.domains", "losses.r1_weight"}
    with pytest.raises(
        ConfigError, match=r"lost\.toml, whose base is looked for in its folder: '.*elsewhere\.toml'"
    ):
        read_config("../configs/lost.toml")
    with pytest.raises(ConfigError, match="circle"):
        read_config("../configs/round.toml")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_circular_bases_are_refused(length: int, tmp_path: Path) -> None:
    for i in range(length):
        write(tmp_path, f"{i}.toml", f'base = "{tmp_path / str((i + 1) % length)}.toml"\n')
    with pytest.raises(ConfigError, match="circle"):
        read_config(str(tmp_path / "0.toml"))


def test_for_a_run_instead_of_a_preset_its_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("steps = 5")
    with pytest.raises(ConfigError, match=r"is the folder of a run: give its settings, .*/config\.toml$"):
        read_config(str(tmp_path))


def test_for_an_unknown_preset_the_nearest_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"'papper' is neither a file nor a preset.*did you mean 'paper'"):
        read_config("papper")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nimage_sise = 64", "did you mean 'image_size'"),
        ("[dta]\nimage_size = 64", "no section 'dta': did you mean 'data'"),
        ("image_size = 64", "no section 'image_size'"),
        ("data = 3", "no section 'data'"),
        ("[losses]\nimage_size = 64", "losses.image_size"),
        ("[data]\nimage_size = 'big'", "image_size is 'big'"),
        ("[data]\nimage_size = 65", "image_size is 65"),
        ("[data]\nimage_size = true", "image_size is True"),
        ("[data]\nfit = 'zoom'", "stretch, crop, pad"),
        ("[data]\nbackground = [1, 2]", "background is (1, 2): take 3 numbers"),
        ("[data]\nbackground = [1, 2, 256]", "from 0 to 255"),
        ("[data\n", "not valid TOML"),
        ("base = 'nowhere'", "'nowhere' is neither a file nor a preset"),
    ],
)
def test_errors_in_files_name_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.toml", text)
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert message in str(error.value)
    assert "nowhere" in text or "mine.toml" in str(error.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"picture\.toml is not valid TOML"):
        read_config(str(tmp_path / "picture.toml"))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("networks", {"domains": "12"}),
        ("networks", {"domains": "auto"}),
        ("networks", {"domains": True}),
        ("networks", {"domains": 3.5}),
        ("networks", {"domains": None}),
        ("networks", {"domains": np.int64(3)}),  # a TOML file could not hold it
        ("networks", {"standardise": "true"}),
        ("losses", {"temperature": "0.1"}),
        ("losses", {"temperature": np.float64(0.1)}),
        ("augment", {"crop_area": [0.5, 1.0]}),
        ("augment", {"crop_area": (0.5, "1.0")}),
        ("schedule", {"guide_only_until": "0.5"}),
        ("data", {"label_column": 3}),
    ],
)
def test_a_value_of_another_type_is_refused_also_from_python(section: str, values: dict[str, Any]) -> None:
    changed = dataclasses.replace(getattr(Config(), section), **values)
    with pytest.raises(ConfigError, match=next(iter(values))):
        Config(**{section: changed})


@pytest.mark.parametrize(("name", "value"), [("rmsprop_alpha", 1.0), ("rmsprop_eps", 0.0)])
def test_values_that_would_divide_by_0_are_refused(name: str, value: float) -> None:
    """RMSprop's mean square would stay 0, or 0 be divided by 0."""
    with pytest.raises(ConfigError, match=name):
        Config().with_overrides({name: value})


def test_whole_numbers_stand_for_numbers_with_a_decimal_point() -> None:
    config = Config(
        losses=dataclasses.replace(Config().losses, r1_weight=5),
        augment=dataclasses.replace(Config().augment, crop_area=(1, 1)),
        schedule=dataclasses.replace(Config().schedule, guide_only_until=0.5),
    )
    assert (config.losses.r1_weight, config.augment.crop_area) == (5.0, (1.0, 1.0))


def test_whole_numbers_of_numpy_are_steps_not_shares() -> None:
    schedule = Config().with_overrides({"guide_only_until": np.int64(300), "steps": np.int64(900)}).schedule
    assert (schedule.guide_only_until, schedule.steps) == (300, 900)
    assert type(schedule.guide_only_until) is int


def test_a_share_beyond_all_steps_is_refused():
    with pytest.raises(
        ConfigError, match=r"guide_only_until is 65000\.0, but a number with a decimal point is a share"
    ):
        Config().with_overrides({"guide_only_until": "65000.0"})


def test_a_setting_is_found_by_its_name_in_every_section() -> None:
    config = read_config("semit").with_overrides({"octave_share": 0.25, "lecam_weight": 0.5})
    assert config.value("octave_share") == 0.25
    assert config.value("adversarial.lecam_weight") == config.adversarial.lecam_weight == 0.5
    with pytest.raises(ConfigError, match="there is no setting 'lecam_wieght'"):
        config.value("lecam_wieght")


def test_a_value_from_python_that_is_no_number_is_refused_by_its_range():
    """Regression: "which is of type float: give a number", because NaN does not equal itself."""
    with pytest.raises(ConfigError, match="temperature is nan: take a value that is finite"):
        Config(losses=LossConfig(temperature=math.nan))
