"""Metrics sent to a tracker. A fake module has the calls that trackio and wandb share."""

import json
import os
import sys
import types

import pytest

from spoilt import in_a_loss
from tiny_run import tiny_config, write_pictures
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.training.launch import start_run
from tunit.training.logs.tracking import Tracker, check_tracker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tracker(monkeypatch):
    """A module `wandb` that records its calls; `fails` is the name of a call that raises an error."""
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace(name="wandb", loader=None)
    module.calls, module.fails = [], ""

    def called(name):
        def call(*args, **named):
            module.calls.append((name, args, named))
            if module.fails == name:
                raise RuntimeError("the server is gone\nand more")

        return call

    for name in ("init", "log", "finish"):
        setattr(module, name, called(name))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def short_run(folder, **how):
    config = tiny_config(steps=6, guide_only_until=6, log_every=2, sample_every=0)
    write_pictures(folder / "pictures", 8)
    return start_run(folder / "pictures", folder / "my run", config, quiet=True, **how)


def test_a_tracker_gets_the_same_values_as_the_log(tracker, tmp_path):
    short_run(tmp_path, log_to="wandb")
    (begin, _, first), *lines, (end, _, _) = tracker.calls
    assert (begin, end) == ("init", "finish")
    assert (first["project"], first["name"]) == ("tunit", "my run")
    assert first["config"]["networks"]["style_width"] == 8
    rows = [json.loads(line) for line in (tmp_path / "my run" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "alarm" not in row]
    assert len(rows) >= 3
    assert [{"step": named["step"], **args[0]} for _, args, named in lines] == rows


def test_a_failing_tracker_is_reported_once_and_stops_nothing(tracker, tmp_path, capsys):
    tracker.fails = "log"
    assert short_run(tmp_path, log_to="wandb").step == 6
    assert [name for name, *_ in tracker.calls] == ["init", "log"]
    said = capsys.readouterr().err
    assert (
        said.count("wandb failed (RuntimeError: the server is gone), so the training goes on without it") == 1
    )
    assert "and more" not in said


def test_a_tracker_still_gets_values_after_training_went_back_to_a_checkpoint(tracker, tmp_path, monkeypatch):
    in_a_loss(monkeypatch)
    write_pictures(tmp_path / "pictures")
    config = tiny_config(on_nan="rollback", sample_every=0)
    assert (
        start_run(tmp_path / "pictures", tmp_path / "run", config, quiet=True, log_to="wandb").rollbacks == 1
    )
    steps = [named["step"] for name, _, named in tracker.calls if name == "log"]
    assert steps == [3, 6, 6, 9, 12]
    assert [name for name, *_ in tracker.calls].count("finish") == 1
    assert tracker.calls[-1][0] == "finish"


@pytest.mark.parametrize("fails", ["init", "finish"])
def test_errors_at_its_start_or_end_do_not_stop_a_training(tracker, tmp_path, capsys, fails):
    tracker.fails = fails
    told = Tracker("wandb", tmp_path, tiny_config())
    told.log(1, {"a": 1.0})
    told.finish()
    told.finish()
    assert capsys.readouterr().err.count("wandb failed") == 1


def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tunit.training.logs.tracking.find_spec", lambda name: None)
    write_pictures(tmp_path / "pictures", 8)
    words = ["train", str(tmp_path / "pictures"), "--out", str(tmp_path / "run"), "--log-to", "trackio"]
    assert main(words) == 2
    assert 'pip install "tunit[trackio]", or leave out --log-to' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="--log-to is 'mlflow': take one of trackio, wandb"):
        check_tracker("mlflow")


def test_trackio_itself_accepts_what_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    told = Tracker("trackio", tmp_path / "kinds", tiny_config())
    told.log(1, {"guide/style": 0.5})
    told.finish()
    assert any(name for _, _, files in os.walk(tmp_path / "trackio") for name in files)
