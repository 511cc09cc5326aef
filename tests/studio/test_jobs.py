"""Trainings that the studio starts: they continue without it, save everything when stopped, can be resumed, and
report why they ended.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_run import flags, write_pictures
from tunit.config.presets import read_config
from tunit.errors import ConfigError, RunError
from tunit.files.atomic import lock
from tunit.studio import command_lines, jobs, process_start
from tunit.training.run_folder import RunFolder

PYTHON = [sys.executable, "-c"]


def wait_for(run, *states, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = jobs.state_of(run)
        if found.state in states:
            return found
        time.sleep(0.25)
    pytest.fail(f"{run} stayed {found} for {seconds} s: {jobs.log_tail(run)}")


def ended(run):
    return wait_for(run, jobs.FINISHED, jobs.STOPPED, jobs.FAILED)


def test_a_training_starts_stops_with_everything_saved_and_is_resumed(tmp_path):
    source, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    training = command_lines.NewTraining(source, run, preset="paper")
    long = flags(steps=100_000, checkpoint_every=100_000, sample_every=0, log_every=1)
    process = jobs.start(training.command() + long, run)
    assert os.getsid(process) == process != os.getsid(0)
    assert jobs.state_of(run).state in jobs.RUNNING
    until = time.monotonic() + 120
    while jobs.state_of(run).step < 5 and time.monotonic() < until:
        time.sleep(0.25)
    assert jobs.state_of(run).state == jobs.TRAINING
    jobs.stop(run)
    stopped = ended(run)
    assert (stopped.state, stopped.steps, stopped.reason) == (jobs.STOPPED, 100_000, "")
    assert stopped.step >= 5
    saved = RunFolder(run).checkpoints / f"step_{stopped.step:08d}.safetensors"
    assert saved.is_file()
    with pytest.raises(RunError, match="not in training"):
        jobs.stop(run)
    jobs.start(command_lines.resume_command(run, stopped.step + 2), run)
    assert ended(run) == jobs.State(jobs.FINISHED, stopped.step + 2, stopped.step + 2)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "print('tunit: there are no pictures: give others'); raise SystemExit(2)",
            "there are no pictures: give others",
        ),
        ("print('one'); raise ValueError('odd')", "ValueError: odd"),
        (
            "print('E alone: step 3/9  MI 0.1  0:12 left', flush=True); import os; os.kill(os.getpid(), 9)",
            "was killed",
        ),
        ("import os; os.kill(os.getpid(), 9)", "without a message"),
        (
            "print('tunit: the disk is full: make space', flush=True); import warnings; "
            "warnings.warn_explicit('resource_tracker: There appear to be 1 leaked semaphore objects', UserWarning, "
            "warnings.__file__, 5); raise SystemExit(2)",
            "the disk is full: make space",
        ),
    ],
)
def test_a_training_that_failed_gives_the_reason_in_one_sentence(tmp_path, program, reason):
    run = tmp_path / "run"
    jobs.start([*PYTHON, program], run)
    found = ended(run)
    assert found.state == jobs.FAILED
    assert reason in found.reason
    assert len(found.reason.splitlines()) == 1


CHILD = """
import os, sys
from pathlib import Path
from tunit.studio import jobs
jobs.start([sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""


def test_a_training_continues_without_the_studio_and_another_one_stops_it(tmp_path):
    run = tmp_path / "run"
    assert subprocess.run([*PYTHON, CHILD, str(run)], check=False).returncode == -signal.SIGKILL
    process = json.loads((run / "studio" / "job.json").read_text())["process"]
    assert jobs.state_of(run).state == jobs.STARTING
    os.kill(process, 0)
    jobs.stop(run)
    assert ended(run).state == jobs.STOPPED


def test_another_process_with_a_reused_id_is_not_the_training(tmp_path):
    run = tmp_path / "run"
    jobs.start([*PYTHON, "print('tunit: no')"], run)
    ended(run)
    path = run / "studio" / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"process": os.getpid()}))
    assert jobs.state_of(run).state == jobs.FAILED
    with pytest.raises(RunError, match="not in training"):
        jobs.stop(run)


def test_without_proc_the_start_of_a_process_is_told_by_ps(monkeypatch):
    said = {"7": "Ss   Sat Nov 28 04:29:04 2026\n", "8": "Z    Sat Nov 28 04:29:04 2026\n", "9": ""}

    def ps(command, **settings):
        """As the ps of macOS."""
        assert command[:4] == ["ps", "-o", "stat=,lstart=", "-p"]
        return subprocess.CompletedProcess(command, 0, said[command[4]])

    def no_proc(path, *args):
        raise FileNotFoundError(path)

    monkeypatch.setattr(process_start.subprocess, "run", ps)
    monkeypatch.setattr(process_start.Path, "read_text", no_proc)
    monkeypatch.setattr(process_start.Path, "exists", lambda path: False)
    assert process_start.born(7) == "Sat Nov 28 04:29:04 2026"
    assert process_start.born(8) is process_start.born(9) is None


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("birds", "birds taught"), ("cats (1)", "cats 1 taught"), ("a,b+c", "a b c taught"), ("(+)", "run taught"),
        ("x" * 80, "x" * 50 + " taught"), ("-cats.", "cats taught"), ("Vögel 2", "Vögel 2 taught"),
    ],
)  # fmt: skip
def test_the_name_that_teach_suggests_is_one_that_is_taken(run, name):
    assert command_lines.suggested_name(run) == name
    assert command_lines.check_name(name) == name


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("3f2a9c1d77aa", "is trained on the machine 3f2a9c1d77aa: stop it there"),
        (socket.gethostname(), "is trained by the first process of a container: stop that container"),
    ],
)
def test_the_first_process_of_a_container_is_never_stopped_from_here(tmp_path, monkeypatch, host, remedy):
    """As after `docker run tunit train`: the training is process 1 there."""
    monkeypatch.setattr(os, "kill", lambda *words: pytest.fail("a signal was sent"))
    with lock(tmp_path / ".lock"):
        (tmp_path / ".lock").write_text(json.dumps({"host": host, "process": 1}))
        assert jobs.state_of(tmp_path).state == jobs.TRAINING
        with pytest.raises(RunError, match=remedy):
            jobs.stop(tmp_path)


def test_a_training_on_another_machine_is_not_stopped_here(tmp_path, monkeypatch):
    run = tmp_path / "run"
    jobs.start([*PYTHON, "import time; time.sleep(60)"], run)
    with monkeypatch.context() as patched:
        patched.setattr(jobs.socket, "gethostname", lambda: "elsewhere")
        assert jobs.state_of(run).state not in jobs.RUNNING
    jobs.stop(run)
    assert ended(run).state == jobs.STOPPED


# Holds the lock of the run in its first argument, and counts the signals that it gets.
AT_A_TERMINAL = """
import signal, sys, time
from pathlib import Path
from tunit.files.atomic import lock
signals = []
signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
with lock(Path(sys.argv[1]) / ".lock"):
    print("locked", flush=True)
    until = time.monotonic() + 60
    while not signals and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2)  # saves everything; a second signal now would end it at once
print(len(signals), flush=True)
"""


@pytest.mark.parametrize("earlier", [None, {"process": 4194304, "host": "elsewhere", "born": "1"}])
def test_a_training_that_was_started_at_a_terminal_is_asked_once_to_stop(tmp_path, earlier):
    run = tmp_path / "run"
    run.mkdir()
    if earlier:
        (run / "studio").mkdir()
        (run / "studio" / "job.json").write_text(json.dumps(earlier))
    command = [*PYTHON, AT_A_TERMINAL, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        assert jobs.state_of(run).state == jobs.TRAINING
        jobs.stop(run)
        assert jobs.state_of(run).state == jobs.STOPPING
        jobs.stop(run)
        assert process.stdout.readline() == "1\n"
    assert jobs.state_of(run).state == jobs.STOPPED


def test_a_request_to_stop_does_not_hold_for_a_later_training(tmp_path):
    run = tmp_path / "run"
    for _ in range(2):
        jobs.start([*PYTHON, "import time; time.sleep(60)"], run)
        assert jobs.state_of(run).state == jobs.STARTING
        jobs.stop(run)
        assert ended(run).state == jobs.STOPPED


def test_a_missing_program_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="cannot be started"):
        jobs.start([str(tmp_path / "nothing")], tmp_path / "run")


def test_damaged_files_are_ignored(tmp_path):
    studio = tmp_path / "studio"
    studio.mkdir()
    for content in (b"", b"\xff\x00", b"[]", b'{"process": -1, "host": 3}', b'{"process": 1'):
        (studio / "job.json").write_bytes(content)
        (tmp_path / "config.toml").write_bytes(content)
        (tmp_path / "metrics.jsonl").write_bytes(content)
        assert jobs.state_of(tmp_path) == jobs.State(jobs.STOPPED, 0, 0)


def test_commands_are_lists_of_words_without_a_shell():
    training = command_lines.NewTraining(
        Path("/a b/$(x); rm -rf ~"), Path("/out/--overwrite"), "small", 10, 4, 64, 3
    )
    words = training.command()
    assert words[5] == "/a b/$(x); rm -rf ~"
    assert words[6:] == [
        "--out", "/out/--overwrite", "--preset", "small", "--seed", "3", "--domains", "4", "--steps", "10",
        "--image-size", "64",
    ]  # fmt: skip
    assert Path(command_lines.NewTraining(Path("--help"), Path("x")).command()[5]).is_absolute()


@pytest.mark.parametrize(
    "values",
    [
        {"preset": "--overwrite"}, {"preset": "../x.toml"}, {"steps": -1}, {"steps": 10**9}, {"domains": 5000},
        {"image_size": 33}, {"image_size": 4096}, {"seed": -1},
    ],
)  # fmt: skip
def test_orders_with_invalid_settings_are_refused(values):
    with pytest.raises(ConfigError):
        command_lines.NewTraining(Path("/a"), Path("/b"), **values)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "-x", "a\nb", "x" * 61, "a\\b", "end.", "a\0"]
)
def test_invalid_names_are_refused(name):
    with pytest.raises(ConfigError, match="name of the run"):
        command_lines.check_name(name)


def test_the_offered_presets_exist():
    for name in command_lines.PRESETS:
        read_config(name)
    assert command_lines.check_name(" two words-2.b ") == "two words-2.b"


@pytest.mark.parametrize(
    ("preset", "pictures", "sizes"),
    [
        ("small", 0, {}), ("small", 143, {}), ("small", 142, {"--guide-only-batch-size": 64}), ("small", 1, {}),
        ("default", 36, {}), ("default", 33, {"--batch-size": 16}),  # some of the 33 may be unusable
        ("small", 52, {"--guide-only-batch-size": 32}),
        ("small", 12, {"--batch-size": 8, "--guide-only-batch-size": 8}), ("default", 31, {"--batch-size": 16}),
    ],
)  # fmt: skip
def test_batches_are_lowered_if_there_are_fewer_pictures(preset, pictures, sizes):
    assert command_lines.smaller_batches(preset, pictures) == sizes
