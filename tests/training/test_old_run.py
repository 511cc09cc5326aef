"""A run that was begun by a development version before 0.1.0 can be resumed, and its model can be read.

tests/run_of_0_1 was made during the development of 0.1.0, before each method had its own files: six steps on ten
pictures. To be small, it has the narrowest networks possible and 8 hidden units in the style MLP. `later.json` is the
log of the code of that time, up to step 9.
"""

import json
import shutil
import tomllib
import zlib
from pathlib import Path

import pytest

from tiny_run import tiny_config
from tunit.cli import main
from tunit.config import file_settings, read_config
from tunit.config.fields import toml_value
from tunit.config.methods import REMOVED
from tunit.config.run_file import CHECKSUM, read_run_config, write_run_config
from tunit.errors import ConfigError, RunError
from tunit.methods.model_file import load_model
from tunit.networks import generator
from tunit.printing import shown

HERE = Path(__file__).parents[1] / "run_of_0_1"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "STYLE_HIDDEN", 8)
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


def test_it_resumes_and_learns_the_same_as_the_earlier_version(run):
    assert main(["train", "--resume", str(run), "--steps", "9", "--quiet"]) == 0
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in found if line["step"] > 6]
    expected = json.loads((HERE / "later.json").read_text())
    assert [line["step"] for line in found] == [7, 8, 9]
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-5), (ours["step"], name)
    # The resumed run is one of this version: with booleans, and the method's settings in their own section.
    table = tomllib.loads((run / "config.toml").read_text())
    assert table["method"]["method"] == "tunit"
    assert table["run"]["compile"] is False
    assert "architecture" not in table["networks"]
    assert table["clustering"]["clustering_objective"] == "mutual-information"


def test_its_model_is_read(run):
    model = load_model(run)
    assert (model.step, model.image_size, model.settings.domains) == (6, 32, 3)
    assert model.config.method.method == "tunit"


# Parts of that version's files for the baselines: settings in their old places, with values that are never the
# default.
OLD = """
[networks]
architecture = "semit"
octave_share = 0.25
[losses]
funit_adversarial_factor = 0.75
feature_matching_weight = 2.0
pseudo_label_weight = 3.0
compatibility_weight = 4.0
prediction_entropy_weight = 5.0
soft_label_rate = 6.0
cycle_weight = 7.0
content_entropy_weight = 8.0
[run]
guide_from = "runs/first"
compile = 1
checkpoint_activations = 0
"""


def test_settings_are_found_in_their_old_places(tmp_path):
    (tmp_path / "old.toml").write_text(OLD)
    config = read_config(str(tmp_path / "old.toml"))
    now = tomllib.loads(config.to_toml())
    before = tomllib.loads(OLD)
    for section, name in ((s, n) for s, names in before.items() for n in names):
        new = "method" if name == "architecture" else name
        (value,) = (values[new] for values in now.values() if new in values)
        assert value == before[section][name], name
    (tmp_path / "new.toml").write_text(config.to_toml())
    assert read_config(str(tmp_path / "new.toml")) == config


# ---- settings that were removed ----


def with_more(text, settings):
    """The text of a config file with more settings (SECTION.NAME -> value)."""
    for full, value in settings.items():
        section, _, name = full.partition(".")
        text = text if f"[{section}]\n" in text else f"{text}\n[{section}]\n"
        text = text.replace(f"[{section}]\n", f"[{section}]\n{name} = {toml_value(value)}\n")
    return text


@pytest.fixture
def sealed(tmp_path):
    """A function that writes the config file of a run that has more settings, with its checksum."""
    path = tmp_path / "config.toml"
    write_run_config(path, tiny_config())

    def write(settings):
        text = with_more(path.read_text().rpartition(CHECKSUM)[0], settings)
        path.write_text(f"{text}{CHECKSUM}{zlib.crc32(text.encode()):08x}\n")
        return path

    return write


def test_a_run_with_settings_that_were_removed_but_were_off_resumes(run):
    file = run / "config.toml"
    file.write_text(with_more(file.read_text(), REMOVED))
    assert main(["train", "--resume", str(run), "--steps", "7", "--quiet"]) == 0
    names = {name for values in tomllib.loads(file.read_text()).values() for name in values}
    assert names.isdisjoint(full.partition(".")[2] for full in REMOVED)


def test_the_checksum_of_a_config_file_is_that_of_its_whole_text(sealed):
    path = sealed(REMOVED)
    assert read_run_config(path) == tiny_config()
    for full, off in REMOVED.items():
        line = f"{full.partition('.')[2]} = {toml_value(off)}\n"
        assert line in path.read_text()
        path.write_text(path.read_text().replace(line, ""))
        with pytest.raises(RunError, match="its checksum differs"):
            read_run_config(path)


# For each removed setting, a value with which it had an effect.
USED = {
    "losses.perceptual_weight": 3.0,
    "schedule.decay_steps": 100,
    "adversarial.discriminator_augment_colours": True,
    "adversarial.adversarial_loss": "relativistic",
    "adversarial.r2_weight": "auto",
}


@pytest.mark.parametrize(("full", "value"), USED.items())
def test_a_run_that_used_a_setting_that_was_removed_is_refused(sealed, run, capsys, full, value):
    name = full.partition(".")[2]
    said = (
        f"{name} is {shown(value)}, but this setting was removed, because no measurement found translations better "
        "with it: begin a new run without it"
    )
    with pytest.raises(ConfigError, match=f"config.toml: {said}$"):
        read_run_config(sealed({full: value}))
    file = run / "config.toml"  # without a checksum
    file.write_text(with_more(file.read_text(), {full: value}))
    assert main(["train", "--resume", str(run), "--steps", "7", "--quiet"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_preset_may_hold_settings_that_were_removed_only_if_they_are_off(tmp_path):
    assert USED.keys() == REMOVED.keys()
    path = tmp_path / "mine.toml"
    path.write_text(with_more('base = "small"\n', REMOVED | {"schedule.steps": 9}))
    assert read_config(path) == read_config("small").with_overrides({"steps": 9})
    assert file_settings(str(path)) == {"schedule.steps"}
    for full, value in USED.items():
        path.write_text(with_more("", {full: value}))
        with pytest.raises(ConfigError, match="this setting was removed"):
            read_config(path)


@pytest.mark.parametrize(("full", "off"), REMOVED.items())
def test_a_setting_that_was_removed_cannot_be_given_otherwise(full, off, capsys):
    name = full.partition(".")[2]
    why = "it was removed, because no measurement found translations better with it: leave it out"
    with pytest.raises(ConfigError, match=f"there is no setting '{name}': {why}$"):
        tiny_config().with_overrides({name: off})
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(SystemExit, match="2"):
        main(["train", "FOLDER", "--out", "RUN", flag, str(off)])
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"tunit train: unknown flag {flag}: {why}"
