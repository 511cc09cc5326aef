"""A run's own files are complete, or the run is refused with a sentence."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_run import tiny_config, write_pictures
from tunit import native
from tunit.config.run_file import CHECKSUM, SEALED, read_run_config, write_run_config
from tunit.data.batching.augment import random_view
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import open_packed
from tunit.errors import ConfigError, DataError, RunError
from tunit.methods.neighbourhood import is_search_due
from tunit.training import run_folder
from tunit.training.launch import resume_run, start_run
from tunit.training.run_folder import (
    RunFolder,
    begin_run,
    check_same_pictures,
    check_same_step,
    write_picture_index,
)
from tunit.training.schedule import phase_at


@pytest.fixture
def config_file(tmp_path):
    write_run_config(tmp_path / "config.toml", tiny_config(seed=5))
    return tmp_path / "config.toml"


def test_a_config_is_read_back(config_file):
    assert read_run_config(config_file) == tiny_config(seed=5)


def test_a_config_cut_after_any_line_is_refused(config_file):
    lines = config_file.read_text().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        config_file.write_text("".join(lines[:kept]))
        with pytest.raises(RunError, match="its end is missing"):
            read_run_config(config_file)


def test_a_changed_config_is_refused(config_file):
    config_file.write_text(config_file.read_text().replace("seed = 5", "seed = 6"))
    with pytest.raises(RunError, match="its checksum differs"):
        read_run_config(config_file)


def test_a_config_of_the_previous_version_is_read_if_complete(config_file):
    text = config_file.read_text().replace(SEALED, "# Every setting of this run, resolved.")
    text = text[: text.index(CHECKSUM)]
    config_file.write_text(text)
    assert read_run_config(config_file) == tiny_config(seed=5)
    for section in ("[schedule]", "[run]", "[optimisers]", "[networks]"):
        config_file.write_text(text[: text.index(section)])
        with pytest.raises(RunError, match=r"it has no .*, so it was cut short"):
            read_run_config(config_file)


@pytest.fixture
def packed(tmp_path):
    source = tmp_path / "pictures"
    for name, seed in (("a", 0), ("b", 1)):
        write_pictures(source / name, 3, seed=seed)
    return pack_pictures(source, tmp_path / "run" / "data", PackSettings(32, labels="folders"), workers=1)


def test_the_run_says_whether_the_c_code_was_used(tmp_path, packed, monkeypatch):
    library = SimpleNamespace(tunit_vectors=lambda: 8)

    def said(device, switch, found):
        monkeypatch.setenv("TUNIT_NATIVE", switch)
        monkeypatch.setattr(native, "_library", lambda: found)
        run = RunFolder(tmp_path / "run")
        begin_run(run, tiny_config(), tmp_path / "pictures", packed, torch.device(device))
        return json.loads(run.about.read_text())["native"]

    assert said("cpu", "1", library) == "vectors of 8 floats"
    assert said("cpu", "0", library) == "off (TUNIT_NATIVE=0)"
    assert said("cpu", "1", None) == "not compiled"
    assert said("mps", "1", library) == "not used"


def test_a_resumed_run_says_what_was_used_since(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "describe", lambda: "vectors of 8 floats")
    run = RunFolder(tmp_path / "run")
    start_run(write_pictures(tmp_path / "pictures", 8), run.path, tiny_config(steps=2), quiet=True)
    begun = run.about.read_bytes()
    resume_run(run.path, overrides={"steps": "3"}, quiet=True)
    assert run.about.read_bytes() == begun
    monkeypatch.setattr(native, "describe", lambda: "off (TUNIT_NATIVE=0)")
    resume_run(run.path, overrides={"steps": "4"}, quiet=True)
    about = run.read_about()
    assert about.pop("resumed")["native"] == "off (TUNIT_NATIVE=0)"
    assert about == json.loads(begun)
    resumed = run.about.read_bytes()
    resume_run(run.path, overrides={"steps": "5"}, quiet=True)
    assert run.about.read_bytes() == resumed
    monkeypatch.setattr(native, "describe", lambda: "vectors of 8 floats")
    resume_run(run.path, overrides={"steps": "6"}, quiet=True)
    assert run.read_about()["resumed"]["native"] == "vectors of 8 floats"


def test_labels_are_compared_by_class_name_and_pixels_too(tmp_path, packed):
    run = RunFolder(tmp_path / "run")
    write_picture_index(run.pictures, packed)
    check_same_pictures(run, packed)
    run.pictures.write_text(run.pictures.read_text().replace("b/000.png,b,", "b/000.png,a,"))
    with pytest.raises(RunError, match=r"\(b/000.png has another label\): restore the labels"):
        check_same_pictures(run, packed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda a, b: a.rename(b),
            "(a/000.png is missing; b/new.png is new): restore them, or train a new run",
        ),
        (lambda a, b: a.unlink(), "(a/000.png is missing): put it back, or train a new run"),
        (lambda a, b: write_pictures(b.parent, 5), "(b/003.png and 1 more are new): take them out, or"),
        (
            lambda a, b: write_pictures(a.parent, 2, seed=9),
            "(a/000.png and 1 more have changed): restore them,",
        ),
        (
            lambda a, b: a.write_bytes(b"x"),
            "(a/000.png cannot be used any more): restore it, or train a new run",
        ),
        (
            lambda a, b: shutil.copy(a, a.parent / "0.png"),
            "(a/0.png is new): take it out, or train a new run",
        ),
        (
            lambda a, b: shutil.copy(a, a.parent / "002.png"),  # left out, as a copy of a
            "(a/002.png has changed): restore it, or train a new run",
        ),
        (
            lambda a, b: shutil.copy(a.parent / "002.png", a),  # a/002.png is left out, as a copy of a
            "(a/000.png has changed): restore it, or train a new run",
        ),
    ],
)
def test_the_first_of_the_pictures_that_differ_is_named(tmp_path, packed, change, said):
    run = RunFolder(tmp_path / "run")
    write_picture_index(run.pictures, packed)
    source = tmp_path / "pictures"
    before = (source / "b" / "000.png").read_bytes()
    change(source / "a" / "000.png", source / "b" / "new.png")
    if len(list((source / "b").iterdir())) == 5:
        write_pictures(source / "b", 3, seed=1)
    assert (source / "b" / "000.png").read_bytes() == before
    now = pack_pictures(source, tmp_path / "now", PackSettings(32, labels="folders"), workers=1)
    with pytest.raises(RunError) as refused:
        check_same_pictures(run, now)
    assert str(refused.value).startswith(
        f"the pictures are not those that {run.path} was started with {said}"
    )


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"chosen_from_pictures": "hue"}, "chosen_from_pictures of run.json is 'hue'"),
        ({"start_from": {"run": "x", "anew": None}}, "anew of start_from of run.json is None"),
        ({"start_from": {"run": "x", "anew": 7}}, "anew of start_from of run.json is 7"),
        ({"start_from": {"run": "x", "anew": [[]]}}, "anew of start_from of run.json is"),
        ({"start_from": {"run": "x"}}, "start_from of run.json has no 'anew'"),
        ({"start_from": "x"}, "start_from of run.json is"),
    ],
)
def test_a_damaged_note_of_the_run_before_is_one_sentence(tmp_path, about, sentence):
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match=sentence) as refused:
        RunFolder(tmp_path).began_with_domains()
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["picture,label\na,b\n", "", "picture,label,hash\na\n", 'picture,label,hash\n"a']
)
def test_a_damaged_table_of_pictures_is_one_sentence(tmp_path, packed, text):
    run = RunFolder(tmp_path / "run")
    run.pictures.write_text(text)
    with pytest.raises(RunError, match=r"pictures\.csv is damaged"):
        check_same_pictures(run, packed)


def test_a_changed_pixel_is_noticed_and_packed_again(tmp_path, packed):
    path = tmp_path / "run" / "data" / "pictures.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-10] + bytes([good[-10] ^ 1]) + good[-9:])
    with pytest.raises(DataError, match=r"is damaged at 1 of 6 pictures \(b/002\.png is the first\)"):
        open_packed(tmp_path / "run" / "data")
    again = pack_pictures(
        tmp_path / "pictures", tmp_path / "run" / "data", PackSettings(32, labels="folders"), workers=1
    )
    assert not again.reused
    assert path.read_bytes() == good


def test_ranks_that_read_checkpoints_of_different_steps_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(run_folder, "broadcast_from_rank_zero", lambda own: 7)
    check_same_step(RunFolder(tmp_path), 7)
    with pytest.raises(RunError, match=r"different checkpoints in .* of step 5"):
        check_same_step(RunFolder(tmp_path), 5)


def test_a_rank_whose_own_checkpoint_is_that_of_rank_zero_still_stops_with_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(run_folder, "broadcast_from_rank_zero", lambda own: own)
    monkeypatch.setattr(run_folder, "largest_of_ranks", lambda own: 1)
    with pytest.raises(RunError, match="different checkpoints"):
        check_same_step(RunFolder(tmp_path), 7)


def test_crops_are_chosen_from_the_pictures_and_the_choice_stands_in_the_run(tmp_path):
    """Equal pictures share their composition; pictures of noise share none. A resumed run keeps the choice."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    equal = np.zeros_like(noise)
    equal[:, :16, :16], equal[:, 0, 0, 0] = (
        255,
        np.arange(12),
    )  # one pixel differs, so that they are no copies
    for name, pictures, area in (("equal", equal, (0.3, 1.0)), ("noise", noise, (0.1, 0.7))):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
        run = tmp_path / f"run of {name}"
        start_run(tmp_path / name, run, tiny_config(crop_area=(0, 0), steps=2), quiet=True)
        assert read_run_config(run / "config.toml").augment.crop_area == area
        assert resume_run(run, overrides={"steps": "3"}, quiet=True).step == 3


def test_jitter_and_the_start_of_neighbours_are_chosen_from_the_pictures(tmp_path, capsys):
    """Stripes of four widths in any colour; and pictures of four colours."""
    rng = np.random.default_rng(0)
    left = {"hue": "auto", "saturation": "auto", "neighbours_from": "auto", "neighbours": 2}
    for name, expected in (("stripes", (0.1, 0.4, 0.0)), ("colours", (0.0, 0.0, 0.5))):
        for i in range(80):
            light = np.sin(2 * np.pi * (np.arange(32) / (3, 5, 9, 16)[i % 4] + rng.random())) * 0.3 + 0.6
            paint = rng.uniform(0.3, 1, 3) if name == "stripes" else 1 - 0.7 * np.eye(4)[i % 4, :3]
            picture = light[None, :, None] * paint + rng.normal(0, 0.03, (32, 32, 3))
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray((255 * picture.clip(0, 1)).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
        run = tmp_path / f"run of {name}"
        start_run(tmp_path / name, run, tiny_config(**left, steps=4, guide_only_until=4, domains=4))
        flags = "--hue {:g} --saturation {:g} --neighbours-from {:g}".format(*expected)
        said = capsys.readouterr().out
        assert "choosing --hue, --saturation and --neighbours-from from the pictures\n" in said
        assert f"chosen from the pictures: {flags}" in said
        config = read_run_config(run / "config.toml")
        assert (config.augment.hue, config.augment.saturation, config.clustering.neighbours_from) == expected
        searched = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in searched if "neighbours_by" in row] == [4 * expected[2]]
        assert resume_run(run, overrides={"steps": "5"}, quiet=True).step == 5


@pytest.mark.parametrize(("labels", "expected"), [("folders", 0.5), ("none", 1.0)])
def test_whether_e_learns_domains_while_it_trains_alone_depends_on_labels(tmp_path, capsys, labels, expected):
    for name in ("a", "b"):
        write_pictures(tmp_path / "pictures" / name)
    run = tmp_path / "run"
    config = tiny_config(domains_from="auto", guide_only_until=3, steps=4, domains=2, labels=labels)
    start_run(tmp_path / "pictures", run, config)
    assert f"chosen from the pictures: --domains-from {expected:g}\n" in capsys.readouterr().out
    assert read_run_config(run / "config.toml").clustering.domains_from == expected
    assert resume_run(run, overrides={"steps": "5"}, quiet=True).step == 5


def test_values_that_nobody_has_chosen_are_refused():
    x, generator = torch.zeros(2, 3, 8, 8), torch.Generator()
    for name, value in (("crop_area", (0, 0)), ("hue", "auto"), ("saturation", "auto")):
        with pytest.raises(ConfigError, match=f"{name} is .*: call suited_to_pictures first"):
            random_view(x, tiny_config(**{name: value}).augment, generator)
    config = tiny_config(neighbours=2, neighbours_from="auto")
    with pytest.raises(ConfigError, match="neighbours_from is auto, to be chosen"):
        is_search_due(SimpleNamespace(step=0), None, config)
    with pytest.raises(ConfigError, match="domains_from is auto, to be chosen"):
        phase_at(0, tiny_config(domains_from="auto"))
