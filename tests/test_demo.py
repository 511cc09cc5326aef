"""The whole demo at a tiny size. Its figures at full size are measured by running it."""

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_run import TINY
from tunit import demo, demo_schedule
from tunit.cli import main
from tunit.config import read_config
from tunit.evaluation.truth import TruthResult
from tunit.files.atomic import lock
from tunit.studio.workspace import Workspace
from tunit.training.run_folder import RunFolder


@pytest.fixture
def tiny_demo(monkeypatch, one_thread):
    small = {k: v for k, v in TINY.items() if k not in ("domains", "steps")}
    config = read_config("demo").with_overrides(small)
    monkeypatch.setattr(demo, "read_config", lambda name: config)
    monkeypatch.setattr(demo, "PICTURES", 36)
    monkeypatch.setattr(demo, "TEST_PAIRS", 40)
    monkeypatch.setattr(demo, "fitting_schedule", lambda config, seconds: config.with_overrides({"steps": 8}))
    monkeypatch.setattr(demo, "joint_steps_within", lambda seconds, run, config: 2)


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


def test_the_demo_does_not_change_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    assert main(["demo", "--out", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine" / "file").read_text() == "x"


class Stopped(Exception):
    """The demo has come to its training."""


@pytest.fixture
def earlier(tmp_path, tiny_demo, monkeypatch):
    """The folder of an earlier demo, with labels of the studio; the next demo stops before it trains."""

    def stop(*arguments):
        raise Stopped

    out = tmp_path / "demo"
    monkeypatch.setattr(demo, "start_run", stop)
    with pytest.raises(Stopped):
        demo.run_demo(out, say=lambda text: None)
    (out / "creatures" / "factors.csv").write_text("earlier")
    parts = ("run.json", "checkpoints/step_1", ".new/ready", "studio/labels.csv")
    for path in ("report.html", *(f"run/{part}" for part in parts)):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("earlier")
    return out


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_the_earlier_demo_wrote_is_replaced(earlier):
    mine = {"my cats/model.safetensors", "translated/00001.png", "thesis.txt", ".hidden"}
    # what tunit would remove from the folder of a run, as leftovers of killed processes
    mine |= {"holiday.mp4.partial", ".tmpabcdef", "checkpoints/x.partial", ".new/ready", ".new/keep.txt"}
    for name in mine:
        (earlier / name).parent.mkdir(exist_ok=True)
        (earlier / name).write_text("mine")
    with pytest.raises(Stopped):
        demo.run_demo(earlier, overwrite=True, say=lambda text: None)
    kept = {name for name in files_in(earlier) if not name.startswith("creatures/")}
    assert kept == mine | {"run/studio/labels.csv", ".tunit-demo"}
    assert all((earlier / name).read_text() == "mine" for name in mine)
    assert (earlier / "creatures" / "factors.csv").read_text() != "earlier"


def test_what_tunit_or_the_system_leaves_in_the_demos_run_does_not_keep_it_from_being_replaced(earlier):
    run = earlier / "run"
    for name in (
        *(".DS_Store", "Thumbs.db", "._run.json", "checkpoints/.DS_Store", "domains/.DS_Store"),
        *(f".tunit.gone.{2**30}.12.partial", f"evaluation/.tunit.gone.{2**30}.12.partial", ".tmpAbCdEf"),
        *(f"domains/.unfinished.gone.{2**30}.x12345678/a", "domains/.tunit-unfinished.1234/journal"),
        *("domains/overview.png", "domains/domain_0.png", "domains/kept.txt", "export/translator.onnx"),
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("left")
    (run / "domains" / "domains.csv").write_text("picture,domain,confidence,outlier\n00001.png,0,0.9,0.1\n")
    (run / "export" / "export.json").write_text('{"format": 1, "tunit": "0.1"}')
    with pytest.raises(Stopped):
        demo.run_demo(earlier, overwrite=True, say=lambda text: None)
    assert files_in(run) == {"studio/labels.csv"}


@pytest.mark.parametrize(
    "kept", ["second/run.json", "notes.txt", "evaluation/notes.txt", "domains/notes.txt"]
)
def test_a_demo_with_other_things_in_its_run_is_not_replaced(earlier, kept, capsys):
    (earlier / "run" / kept).parent.mkdir(exist_ok=True)
    (earlier / "run" / kept).write_text("mine")
    before = files_in(earlier)
    assert main(["demo", "--out", str(earlier), "--overwrite"]) == 2
    named = earlier / "run" / (kept if kept.startswith(("evaluation", "domains")) else kept.split("/")[0])
    assert f"{named} is no part of the demo's run" in capsys.readouterr().err
    assert files_in(earlier) == before


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (["a.txt", "evaluation/b.txt"], "{}/a.txt and {}/evaluation/b.txt are no part"),
        (["a.txt", "b", "c", "d", "e"], "{}/a.txt, {}/b, {}/c and 2 more are no part"),
    ],
)
def test_all_other_things_in_the_demos_run_are_named_or_counted(earlier, mine, said, capsys):
    run = earlier / "run"
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    assert main(["demo", "--out", str(earlier), "--overwrite"]) == 2
    assert said.replace("{}", str(run)) in " ".join(capsys.readouterr().err.split())


def test_a_link_to_a_run_elsewhere_is_removed_but_not_what_it_leads_to(earlier, tmp_path):
    (earlier / "run").rename(tmp_path / "elsewhere")
    (earlier / "run").symlink_to(tmp_path / "elsewhere")
    before = files_in(tmp_path / "elsewhere")
    with pytest.raises(Stopped):
        demo.run_demo(earlier, overwrite=True, say=lambda text: None)
    assert files_in(tmp_path / "elsewhere") == before
    assert not (earlier / "run").exists()


@pytest.mark.parametrize("place", ["run", "my cats", "tries/second"])
def test_nothing_is_replaced_while_a_run_in_the_folder_is_in_training(earlier, place, capsys):
    (earlier / place).mkdir(parents=True, exist_ok=True)
    with lock(earlier / place / ".lock"):
        before = files_in(earlier)
        assert main(["demo", "--out", str(earlier), "--overwrite"]) == 2
        assert files_in(earlier) == before
    assert f"{earlier / place} is being trained by process" in capsys.readouterr().err


def test_a_run_that_is_resumed_after_the_check_is_not_replaced(earlier, monkeypatch, capsys):
    monkeypatch.setattr("tunit.demo_folder.check_replaceable", lambda *arguments: None)
    with lock(earlier / "run" / ".lock"):
        before = files_in(earlier)
        assert main(["demo", "--out", str(earlier), "--overwrite"]) == 2
        assert files_in(earlier) == before
    assert f"{earlier / 'run'} is in use by process" in capsys.readouterr().err


def test_what_a_killed_first_demo_leaves_does_not_keep_the_next_one_from_starting(earlier, tmp_path):
    out = tmp_path / "killed"
    (out / ".tunit-demo-new" / "creatures").mkdir(parents=True)
    (out / ".lock").write_text("")
    with pytest.raises(Stopped):
        demo.run_demo(out, say=lambda text: None)
    assert not (out / ".tunit-demo-new").exists()
    assert (out / "creatures" / "factors.csv").is_file()


def test_a_folder_with_other_creatures_is_not_an_earlier_demo(tmp_path, capsys):
    assert main(["creatures", str(tmp_path / "creatures"), "--number", "3", "--size", "32"]) == 0
    (tmp_path / "summary.json").write_text("{}")
    before = files_in(tmp_path)
    for more in ([], ["--overwrite"]):
        assert main(["demo", "--out", str(tmp_path), *more]) == 2
        assert f"{tmp_path} exists already, and is not an earlier demo" in capsys.readouterr().err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("stage", ["write_creatures", "fitting_schedule"])
def test_an_earlier_demo_is_kept_until_the_new_one_can_start(tmp_path, stage, monkeypatch, capsys):
    out = tmp_path / "demo"
    (out / "creatures").mkdir(parents=True)
    (out / "creatures" / "factors.csv").write_text("earlier")
    (out / "summary.json").write_text('{"translation_error_ratio": 0.6}')

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
    monkeypatch.setattr(demo_schedule, "_seconds_per_step", lambda config, step: seconds[step])
    fitting = demo_schedule.fitting_schedule(config, 50 + 800)
    assert fitting.schedule.steps == 100 + 400
    assert fitting.optimisers.average_decay == pytest.approx(0.99)
    assert demo_schedule.fitting_schedule(config, 50 + 8000).optimisers.average_decay == pytest.approx(0.995)
    assert demo_schedule.fitting_schedule(config, 1).schedule.steps == 100 + demo_schedule.FEWEST_JOINT_STEPS
    assert demo_schedule.steps_of_first_part(fitting) == 100 + 280


def test_the_last_steps_are_planned_by_the_speed_of_the_joint_steps_before(tmp_path):
    config = read_config("demo").with_overrides({"guide_only_until": 100})
    rows = [
        {"step": 50, "speed/seconds_per_step": 9.0},
        {"step": 100, "speed/seconds_per_step": 9.0},
        {"step": 120, "speed/seconds_per_step": 0.25},
        {"step": 120, "alarm": "domains", "sentence": "a", "remedy": "b"},
        {"step": 140, "speed/seconds_per_step": 0.75},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert demo_schedule.joint_steps_within(50.0, tmp_path, config) == 100
    assert demo_schedule.joint_steps_within(-1.0, tmp_path, config) == 0


def test_the_demo_goes_on_for_as_many_steps_as_fit_into_the_time_left(tmp_path, tiny_demo, monkeypatch):
    given = []

    def two(seconds, run, config):
        given.append(seconds)
        return 2

    monkeypatch.setattr(demo, "joint_steps_within", two)
    said = []
    summary = demo.run_demo(tmp_path / "demo", minutes=5, say=said.append)
    first = 8 - math.floor(0.3 * (8 - TINY["guide_only_until"]))
    assert summary.steps == first + 2
    run = RunFolder(tmp_path / "demo" / "run")
    assert run.read_config().schedule.steps == first + 2
    assert "training for 2 more steps, as many as fit into the time left" in said
    assert 0 < given[0] < 300 * demo_schedule.PLANNED_SHARE - demo_schedule.REPORT_SECONDS


def test_the_demo_ends_after_its_first_steps_if_no_time_is_left(tmp_path, tiny_demo, monkeypatch):
    monkeypatch.setattr(demo, "joint_steps_within", lambda seconds, run, config: 0)
    said = []
    summary = demo.run_demo(tmp_path / "demo", minutes=0.1, say=said.append)
    assert RunFolder(tmp_path / "demo" / "run").read_config().schedule.steps == summary.steps
    assert not any("more steps" in line for line in said)


def test_the_command_to_try_next_works_for_a_folder_with_spaces():
    summary = demo.Summary(1.0, 0.5, 1.0, 2.0, 3.0, steps=8, seed=0, seconds=1.0)
    result = TruthResult(1.0, 2.0, 3.0, np.zeros((0, 8, 8, 3), np.uint8))
    lines = demo.report(summary, result, {0: "a"}, Path("my demo"))
    (line,) = (line for line in lines if "tunit translate" in line)
    assert shlex.split(line) == [
        *("tunit", "translate", "my demo/run", "my demo/creatures/pictures/00001.png"),
        *("--domain", "all", "--out", "my demo/translated"),
    ]
