"""A run that is stopped and resumed equals an uninterrupted one, bit for bit."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import torch

from tiny_run import STEPS, flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.config.run_file import write_run_config
from tunit.errors import ConfigError, RunError
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run
from tunit.training.preparation import prepare_resume, resumed_config
from tunit.training.run_folder import RunFolder

# What each case adds to the tiny schedule, so that resumes happen in every phase and for every stream of pictures.
CASES = {
    "paper": {},
    "demo's extras": {
        "sample_every": 0,
        "overclusters": 5,
        "candidate_heads": 2,
        "head_std": 0.3,
        "marginal_balance": 1.5,
        "overcluster_weight": 5.0,
        "r1_every": 3,
    },
    "photographs": {
        "sample_every": 0,
        "neighbours": 3,
        "neighbours_every": 2,
        "neighbours_from": 0.3,
        "found_domains_weight": 0.5,
        "domains_from": 0.2,
        "candidate_heads": 2,
        "both_views": True,
        "standardise": True,
        "normalise_style": True,
        "guide_only_rate": 1e-3,
        "guide_warm_up": 2,
    },
    "a feature network": {
        "sample_every": 0,
        "neighbours": 3,
        "neighbours_from": 0.3,
        "found_domains_weight": 0.5,
        "feature_cue": "random-vgg16",
    },
    "beyond the paper": {
        "sample_every": 0,
        "clustering_objective": "swapped-assignments",
        "r1_weight": "auto",
        "lecam_weight": 0.3,
        "discriminator_augment": 0.5,
        "discriminator_augment_target": 0.6,
        "discriminator_augment_pace": 100,
        "joint_warm_up": 3,
    },
    "few labels": {
        "labels": "csv",
        "labelled_ratio": 0.4,
        "labelled_only_until": 3,
        "candidate_heads": 2,
    },
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return some_with_labels(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """A function that returns the uninterrupted run of a case; each is trained once."""

    @functools.cache
    def trained(case="paper"):
        run = tmp_path_factory.mktemp("whole") / "run"
        start_run(pictures, run, tiny_config(**CASES[case]), quiet=True)
        return run

    return trained


@pytest.fixture(scope="module")
def unfinished(pictures, tmp_path_factory):
    """A function that copies a run of ten steps, with checkpoints after five and ten, to a path."""
    run = tmp_path_factory.mktemp("unfinished") / "run"
    start_run(pictures, run, tiny_config(steps=10), quiet=True)
    return lambda path: shutil.copytree(run, path)


def some_with_labels(place):
    folder = write_pictures(place / "pictures")
    rows = [f"{p.name},{'ab'[i % 2] if i % 3 else ''}" for i, p in enumerate(sorted(folder.iterdir()))]
    (folder / "table.csv").write_text("picture,label\n" + "\n".join(rows) + "\n")
    return folder / "table.csv"


def final(run):
    tensors, about = read_tensors(checkpoints(run / "checkpoints")[-1])
    return tensors, about


def assert_equal_runs(one, other):
    (ours, about), (theirs, about2) = final(one), final(other)
    assert about == about2
    assert ours.keys() == theirs.keys()
    different = [k for k in ours if not torch.equal(ours[k], theirs[k])]
    assert different == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [2, 5, 8])
def test_resumed_equals_uninterrupted(tmp_path, pictures, whole, case, stop):
    parts = tmp_path / "parts"
    start_run(pictures, parts, tiny_config(**CASES[case], steps=stop), quiet=True)
    assert final(parts)[1]["step"] == stop
    resume_run(parts, overrides={"steps": str(STEPS)}, quiet=True)
    assert_equal_runs(whole(case), parts)
    rows = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    notes = {"neighbours_by", "domain_counts"}  # such a row may have the step of a row of losses
    for kind in ({"neighbours_by"}, {"domain_counts"}, set()):
        steps = [row["step"] for row in rows if notes & row.keys() == kind]
        assert steps == sorted(set(steps))


def test_runs_with_the_same_seed_are_equal_and_others_are_not(tmp_path, pictures, whole):
    for name, seed in (("same", 0), ("other", 1)):
        start_run(pictures, tmp_path / name, tiny_config(seed=seed), quiet=True)
    assert_equal_runs(whole(), tmp_path / "same")
    assert not torch.equal(final(whole())[0]["queue"], final(tmp_path / "other")[0]["queue"])


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    else:
        data[-100] ^= 0xFF  # one byte of a tensor: only the checksum can find it
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncated", "empty", "one byte"])
def test_if_the_newest_checkpoint_is_damaged_the_previous_one_is_used_with_a_warning(
    tmp_path, unfinished, whole, how, capsys
):
    hurt = unfinished(tmp_path / "hurt")
    newest = checkpoints(hurt / "checkpoints")[-1]
    assert newest.stem == "step_00000010"
    damage(newest, how)
    resume_run(hurt, overrides={"steps": str(STEPS)})
    assert "damaged" in capsys.readouterr().err
    assert_equal_runs(whole(), hurt)


def test_without_an_undamaged_checkpoint_the_error_is_one_sentence(tmp_path, unfinished):
    run = unfinished(tmp_path / "run")
    for path in checkpoints(run / "checkpoints"):
        damage(path, "truncated")
    with pytest.raises(RunError, match="no checkpoint to resume from"):
        resume_run(run, quiet=True)


def test_a_checkpoint_that_a_kill_left_beyond_the_limit_is_removed(tmp_path, unfinished):
    run = unfinished(tmp_path / "run")  # all steps are done; it keeps three checkpoints
    folder = run / "checkpoints"
    for step in (1, 2, 3):
        shutil.copy(folder / "step_00000005.safetensors", folder / f"step_{step:08d}.safetensors")
    resume_run(run, quiet=True)
    assert [path.stem for path in checkpoints(folder)] == ["step_00000003", "step_00000005", "step_00000010"]


@pytest.mark.parametrize("last", [STEPS, 5], ids=["in the middle", "after the last step"])
def test_an_evaluation_that_was_interrupted_is_made_up_for(tmp_path, pictures, last):
    """It comes after the checkpoint of its step, so a resumed run would never come back to it."""
    run, measured = tmp_path / "run", []

    def interrupted(state):
        raise ZeroDivisionError

    def evaluate(state):
        measured.append(state.step)
        return {"evaluation/figure": 1.5}

    with pytest.raises(ZeroDivisionError):
        start_run(pictures, run, tiny_config(steps=last), quiet=True, evaluate=interrupted, evaluate_every=5)
    for _ in range(2):
        resume_run(run, quiet=True, evaluate=evaluate, evaluate_every=5)
    assert measured == [step for step in (5, 10, 12) if step <= last]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "evaluation/figure" in line] == measured
    before = len(measured)
    resume_run(run, overrides={"steps": str(last + 1)}, quiet=True)
    resume_run(run, overrides={"steps": str(last + 2)}, quiet=True, evaluate=evaluate, evaluate_every=50)
    assert measured[before:] == [last + 2]  # not due after the step at which it resumed


def start_in_background(pictures, run, **overrides):
    words = [sys.executable, "-m", "tunit", "train", str(pictures), "--out", str(run), "--preset", "paper"]
    return subprocess.Popen(
        words + flags(**overrides), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.02)


LONGER = {
    "steps": 30,
    "checkpoint_every": 5,
    "guide_only_until": 10,
    "average_from": 15,
    "sample_every": 0,
}


@pytest.fixture(scope="module")
def uninterrupted(pictures, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    start_run(pictures, run, tiny_config(**LONGER), quiet=True)
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, pictures, uninterrupted, number):
    killed = tmp_path / "killed"
    process = start_in_background(pictures, killed, **LONGER)
    wait_for(lambda: checkpoints(killed / "checkpoints"), process)
    process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert "tunit train --resume" in out
        assert "Traceback" not in out
    assert main(["train", "--resume", str(killed), "--quiet"]) == 0
    assert_equal_runs(uninterrupted, killed)


def test_a_run_is_never_overwritten_by_default(tmp_path, pictures, capsys):
    run = tmp_path / "run"
    words = ["train", str(pictures), "--out", str(run), "--preset", "paper", "--quiet", *flags(steps=2)]
    assert main(words) == 0
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    assert main([*words, "--overwrite"]) == 0


def test_a_mistyped_source_does_not_delete_the_run_to_be_overwritten(tmp_path, unfinished, capsys):
    run = unfinished(tmp_path / "run")
    words = ["train", str(tmp_path / "typo"), "--out", str(run), "--preset", "paper", "--overwrite", *flags()]
    assert main(words) == 2
    assert "typo does not exist" in capsys.readouterr().err
    assert checkpoints(run / "checkpoints")


def test_overwrite_keeps_a_folder_that_is_not_a_run(tmp_path, pictures, capsys):
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    words = ["train", str(pictures), "--out", str(folder), "--preset", "paper", "--overwrite", *flags()]
    assert main(words) == 2
    assert "not the folder of a run" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_settings_that_affect_the_result_cannot_change_on_resume(tmp_path, unfinished):
    run = unfinished(tmp_path / "run")
    with pytest.raises(ConfigError, match="--guide-rate cannot change"):
        resume_run(run, overrides={"guide_rate": "1"}, quiet=True)


def test_a_setting_may_be_given_on_resume_with_the_value_that_the_run_has():
    config = tiny_config(guide_only_until=3)
    own = {"image_size": "32", "guide_only_until": "3", "guide_rate": str(config.optimisers.guide_rate)}
    assert resumed_config(config, own | {"steps": "7"}) == resumed_config(config, {"steps": "7"})
    for other in ({"image_size": "64"}, {"image_size": "48"}, {"guide_only_until": "0.3"}, {"pad": "1"}):
        with pytest.raises(ConfigError, match=f"--{next(iter(other)).replace('_', '-')} cannot change"):
            resumed_config(config, own | other)


def test_a_run_with_settings_that_are_refused_today_resumes(tmp_path, pictures):
    """As a run that was begun before batches of one picture for E alone were refused: it cannot change this."""
    run = RunFolder(tmp_path / "run")
    start_run(pictures, run.path, tiny_config(steps=6), quiet=True)
    write_run_config(run.config, run.read_config().with_overrides({"guide_only_batch_size": 1}))
    assert resume_run(run.path, overrides={"steps": "7"}, quiet=True).step == 7
    with pytest.raises(
        ConfigError, match=r"guide_only_batch_size is 1, but domains and styles are learnt by"
    ):
        start_run(pictures, tmp_path / "new", run.read_config(), quiet=True)


@pytest.mark.parametrize(
    ("settings", "overrides", "sentence"),
    [
        (
            {"domains": "auto", "guide_only_until": 8},
            {"steps": "6"},
            r"after step 8 \(guide_only_until\), but the training ends after step 6: give --steps 8 or more$",
        ),
        (
            {"batch_size": 4, "guide_only_batch_size": 6},
            {"processes": "3"},
            "batch_size is 4, which 3 processes cannot share evenly: set --processes 2$",
        ),
        (
            {"batch_size": 6, "guide_only_batch_size": 9},
            {"processes": "2"},
            "size is 9, .* set --processes 1$",
        ),
    ],
)
def test_what_a_resume_refuses_it_advises_only_what_may_change(settings, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        resumed_config(tiny_config(**settings), overrides)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_checkpoint_does_not_count_among_the_steps_taken(unfinished, tmp_path, processes):
    run = RunFolder(unfinished(tmp_path / "run"))
    checkpoints(run.checkpoints)[-1].write_bytes(b"damaged")
    for steps, taken in ((7, False), (4, True)):
        config = run.read_config().with_overrides({"steps": steps, "processes": processes})
        with pytest.raises(ConfigError, match="has taken 5 steps") if taken else nullcontext():
            prepare_resume(run, config, run.read_about(), None, True, None, None)


def test_a_resume_to_fewer_steps_than_were_taken_is_refused(unfinished, tmp_path, capfd):
    run = RunFolder(unfinished(tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for more in ([], ["--processes", "2"]):
        words = ["train", "--resume", str(run.path), "--steps", "9", "--quiet", *more]
        assert main(words) == 2
        said = capfd.readouterr().err
        assert f"--steps is 9, but {run.path} has taken 10 steps: give at least that" in said
        assert "do not train" not in said
        assert {path: path.read_bytes() for path in before} == before
    assert main(["train", "--resume", str(run.path), "--steps", "10"]) == 0
    said = capfd.readouterr().out
    assert f"trained 10 steps: {run.path}" in said
    assert f"next: tunit domains {run.path} {run.source()}\n" in said


def test_changed_pictures_are_noticed_if_the_pack_is_missing(tmp_path):
    pictures, run = some_with_labels(tmp_path), tmp_path / "run"
    start_run(pictures, run, tiny_config(steps=5), quiet=True)
    for path in (run / "data").iterdir():
        path.unlink()
    resume_run(run, overrides={"steps": "6"}, quiet=True)  # packed again, with the same pictures
    for path in (run / "data").iterdir():
        path.unlink()
    (pictures.parent / "003.png").unlink()
    with pytest.raises(RunError, match=r"\(003.png cannot be used any more\): restore it, or train a"):
        resume_run(run, overrides={"steps": "7"}, quiet=True)
