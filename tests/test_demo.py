"""The whole demo at a tiny size. Its figures at full size are measured by running it."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_run import TINY
from tunit import demo
from tunit.cli import main
from tunit.config import read_config
from tunit.evaluation.truth import TruthResult
from tunit.files import lock
from tunit.studio.workspace import Workspace


@pytest.fixture
def tiny_demo(monkeypatch, one_thread):
    small = {k: v for k, v in TINY.items() if k not in ("domains", "steps")}
    config = read_config("demo").with_overrides(small)
    monkeypatch.setattr(demo, "read_config", lambda name: config)
    monkeypatch.setattr(demo, "PICTURES", 36)
    monkeypatch.setattr(demo, "TEST_PAIRS", 40)
    monkeypatch.setattr(demo, "FEWEST_JOINT_STEPS", 4)
    monkeypatch.setattr(demo, "fitting_schedule", lambda config, seconds: config.with_overrides({"steps": 8}))


def test_the_demo_measures_and_saves_and_prints_its_results(tmp_path, tiny_demo, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--minutes", "1", "--seed", "3"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert 0 <= summary["accuracy"] <= 1
    assert summary["translation_error_ratio"] == pytest.approx(
        summary["translation_error"] / min(summary["source_error"], summary["reference_error"])
    )
    assert summary["seed"] == 3
    assert summary["seconds"] > 0
    text = capsys.readouterr().out
    assert f"accuracy {summary['accuracy']:.3f}" in text
    assert f"ratio {summary['translation_error_ratio']:.3f}" in text
    assert "tunit train YOUR_FOLDER" in text
    assert text.splitlines()[-1].endswith(f"tunit studio {out}")
    assert [run.path for run in Workspace(out).runs()] == [out / "run"]
    for name in ("translations.png", "domains.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 90
    assert (out / "run" / "model.safetensors").is_file()
    assert main(["demo", "--out", str(out)]) == 2
    assert "--overwrite the earlier demo" in capsys.readouterr().err
    assert main(["demo", "--out", str(out), "--overwrite"]) == 0


def test_the_demo_does_not_change_a_folder_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    assert main(["demo", "--out", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine" / "file").read_text() == "x"


@pytest.mark.parametrize("stage", ["write_creatures", "fitting_schedule"])
def test_an_earlier_demo_is_kept_until_the_new_one_can_start(tmp_path, stage, monkeypatch, capsys):
    out = tmp_path / "demo"
    (out / "creatures").mkdir(parents=True)
    for name in ("creatures/factors.csv", "summary.json"):
        (out / name).write_text("earlier")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_creatures", lambda *arguments: None)
    monkeypatch.setattr(demo, stage, stop)
    assert main(["demo", "--out", str(out), "--overwrite"]) == 130
    assert sorted(p.name for p in out.iterdir()) == ["creatures", "summary.json"]
    (out / "run").mkdir()
    with lock(out / "run" / ".lock"):
        assert main(["demo", "--out", str(out), "--overwrite"]) == 2
    assert "is being trained by process" in capsys.readouterr().err


def test_the_steps_fit_into_the_time_but_are_never_too_few(monkeypatch):
    config = read_config("demo").with_overrides({"guide_only_until": 100, "domains_from": 0.6})
    seconds = {0: 0.3, 60: 0.8, 100: 2.0}
    monkeypatch.setattr(demo, "_seconds_per_step", lambda config, step: seconds[step])
    fitting = demo.fitting_schedule(config, 50 + 800)
    assert fitting.schedule.steps == 100 + 400
    assert fitting.optimisers.average_decay == pytest.approx(0.99)
    assert demo.fitting_schedule(config, 50 + 8000).optimisers.average_decay == pytest.approx(0.995)
    assert demo.fitting_schedule(config, 1).schedule.steps == 100 + demo.FEWEST_JOINT_STEPS


def test_the_command_to_try_next_works_for_a_folder_with_spaces():
    summary = demo.Summary(1.0, 0.5, 1.0, 2.0, 3.0, steps=8, seed=0, seconds=1.0)
    result = TruthResult(1.0, 2.0, 3.0, np.zeros((0, 8, 8, 3), np.uint8))
    lines = demo.report(summary, result, {0: "a"}, Path("my demo"))
    (line,) = (line for line in lines if "tunit translate" in line)
    assert shlex.split(line) == [
        *("tunit", "translate", "my demo/run", "my demo/creatures/pictures/00001.png"),
        *("--domain", "all", "--out", "my demo/translated"),
    ]
