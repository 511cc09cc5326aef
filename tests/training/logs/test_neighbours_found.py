"""The user is told by which measures neighbours were found: during the training, in the log and in the report."""

import json
import shutil

import pytest

from tiny_run import STEPS, tiny_config, write_pictures
from tunit.clustering import measures
from tunit.reporting.write import write_report
from tunit.training import in_progress
from tunit.training.alarms.watch import rows_of
from tunit.training.launch import resume_run, start_run
from tunit.training.logs.neighbours_found import measures_of, sentence_of_measures
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")
# Searches before steps 3, 5, 7 and 9 (counted from 1); the first of them chooses the first measures, and so on.
CONFIG = tiny_config(
    neighbours=3, neighbours_from=0.25, neighbours_every=2, guide_only_until=9, sample_every=0
)
CHOSEN = [["codes", "colours"], ["codes", "colours"], ["outlines"], ["outlines"]]
WRITTEN = [(3, ["codes", "colours"]), (7, ["outlines"])]
SAID = [
    "from step 3 on, E's neighbours are the nearest pictures by style codes and colours",
    "from step 7 on, E's neighbours are the nearest pictures by outlines",
]


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def said(monkeypatch):
    """What a training says."""
    lines = []
    monkeypatch.setattr(in_progress.ProgressDisplay, "say", lambda self, text, **how: lines.append(text))
    return lines


def choosing(monkeypatch, chosen):
    """From now on, each search finds the next of these measures to be the best."""
    left = iter(chosen)
    monkeypatch.setattr(measures, "choose_measures", lambda codes, cues, groups: (next(left), {}))


def written(run):
    return measures_of(rows_of(RunFolder(run).metrics))


def test_the_user_is_told_of_the_first_measures_and_when_they_change(pictures, tmp_path, monkeypatch, said):
    choosing(monkeypatch, CHOSEN)
    start_run(pictures, tmp_path / "run", CONFIG)
    assert [line for line in said if "neighbours" in line] == SAID
    assert written(tmp_path / "run") == WRITTEN
    page = write_report(tmp_path / "run").read_text("utf-8")
    by = "style codes and colours (from step 3 on); outlines (from step 7 on)."
    assert page.count(f"While E trained alone, pictures counted as neighbours by: {by}") == 1
    # An older version wrote no such rows.
    lines = RunFolder(tmp_path / "run").metrics.read_text().splitlines()
    kept = [line for line in lines if "neighbours_by" not in line]
    RunFolder(tmp_path / "run").metrics.write_text("".join(f"{line}\n" for line in kept))
    assert "counted as neighbours" not in write_report(tmp_path / "run").read_text("utf-8")


@pytest.mark.parametrize("stop", [2, 4, 6, 8])
def test_a_resumed_run_tells_only_what_is_new(stop, pictures, tmp_path, monkeypatch, said):
    choosing(monkeypatch, CHOSEN)
    start_run(pictures, tmp_path / "run", CONFIG.with_overrides({"steps": stop, "guide_only_until": 9}))
    resume_run(tmp_path / "run", overrides={"steps": str(STEPS)})
    assert [line for line in said if "neighbours" in line] == SAID
    assert written(tmp_path / "run") == WRITTEN


def test_steps_that_are_taken_again_leave_one_row_for_each_choice(pictures, tmp_path, monkeypatch, said):
    """The run is killed after step 8, and its newest checkpoint is that of step 5."""
    choosing(monkeypatch, CHOSEN)
    whole, run = tmp_path / "whole", tmp_path / "run"
    start_run(pictures, whole, CONFIG.with_overrides({"steps": 8}))
    shutil.copytree(whole, run)
    (newest,) = (run / "checkpoints").glob("*8.safetensors")
    newest.unlink()
    choosing(monkeypatch, CHOSEN[2:])
    resume_run(run, overrides={"steps": str(STEPS)})
    assert written(run) == WRITTEN


def test_a_training_without_neighbours_says_nothing_of_them(pictures, tmp_path, said):
    start_run(pictures, tmp_path / "run", tiny_config(sample_every=0))
    assert not [line for line in said if "neighbours" in line]
    assert "counted as neighbours" not in write_report(tmp_path / "run").read_text("utf-8")


def test_one_choice_needs_no_step_in_the_report():
    by = "While E trained alone, pictures counted as neighbours by:"
    assert sentence_of_measures([(3, ["codes"])]) == f"{by} style codes."
    three = ["codes", "outlines", "textures"]
    assert sentence_of_measures([(3, three)]) == f"{by} style codes, outlines and textures."
    assert sentence_of_measures([]) == ""


@pytest.mark.parametrize("names", [None, "codes", [], [1], {"codes": 1}])
def test_a_damaged_row_is_passed_over(names, tmp_path):
    rows = [
        {"step": 2, "neighbours_by": names},
        {"step": "2", "neighbours_by": ["codes"]},
        {"neighbours_by": ["codes"]},
    ]
    (tmp_path / "rows").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert measures_of(rows_of(tmp_path / "rows")) == []
