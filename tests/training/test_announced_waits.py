"""What takes more than a moment before the first step is said beforehand, in one line each; --quiet says nothing."""

import pytest

from tiny_run import tiny_config, write_pictures
from tunit.methods import feature_cue
from tunit.training.launch import resume_run, start_run


@pytest.fixture
def given(tmp_path):
    """Pictures, and a config that leaves much to be found."""
    config = tiny_config(steps=2, guide_only_until=1, hue="auto", crop_area="auto", neighbours=2)
    return write_pictures(tmp_path / "pictures"), config


def test_each_wait_before_the_first_step_has_a_line_before_it(given, tmp_path, monkeypatch, capsys):
    pictures, config = given
    said_before_loading = []

    def load(name, device):
        said_before_loading.append(capsys.readouterr().out)

    monkeypatch.setattr(feature_cue, "load_network", load)
    config = config.with_overrides({"feature_cue": "random-vgg16"})
    with pytest.raises(RuntimeError, match="enough"):
        start_run(pictures, tmp_path / "run", config, fit_batch=True, announce=_stop)
    assert said_before_loading == [
        f"reading the pictures of {pictures}\nloading the feature network 'random-vgg16'\n"
    ]
    assert capsys.readouterr().out == "looking for batch sizes that fit the memory\n"


def test_what_is_chosen_from_the_pictures_is_said_before_and_after(given, tmp_path, capsys):
    pictures, config = given
    start_run(pictures, tmp_path / "run", config)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"reading the pictures of {pictures}",
        "choosing --crop-area and --hue from the pictures",
    ]
    assert lines[2].startswith("chosen from the pictures: --crop-area ")
    assert lines[3] == "building the networks"


def test_a_resume_says_that_it_reads(given, tmp_path, capsys):
    pictures, config = given
    run = tmp_path / "run"
    start_run(pictures, run, config, quiet=True)
    resume_run(run, overrides={"steps": "3"}, quiet=True)
    assert capsys.readouterr().out == ""
    resume_run(run, overrides={"steps": "4"})
    assert capsys.readouterr().out.startswith(f"reading the pictures and the last checkpoint of {run}\n")


def _stop(pictures):
    raise RuntimeError("enough has been said")
