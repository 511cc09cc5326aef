"""A machine that was lost comes back: its new torchrun joins the others, and they go on with the run they began."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from tiny_run import flags, write_pictures
from tunit.errors import RunError
from tunit.training.all_ranks import begun_by_this_job, check_not_moved, check_same_source, say_it_goes_on
from tunit.training.checkpoint import checkpoints
from tunit.training.run_folder import RunFolder

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes"),
]
# The machine with the lower address has rank 0. It is the one that is lost; the other holds the rendezvous.
ADDRESSES = {"stays": "127.0.0.2", "returns": "127.0.0.1"}
SETTINGS = {
    "steps": 4000,
    "guide_only_until": 4000,
    "average_from": 4000,
    "checkpoint_every": 20,
    "sample_every": 0,
}


@pytest.fixture
def machines(tmp_path):
    """A function that starts the torchrun of a machine, with the same command each time; and all that it started."""
    write_pictures(tmp_path / "pictures")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started, numbers = [], itertools.count()

    def start(name):
        # Short times, so that the machines do not wait long for each other.
        conf = f"is_host={int(name == 'stays')},last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3"
        words = [sys.executable, "-m", "tunit.training.torchrun", "--nnodes=2", "--nproc-per-node=1"]
        words += ["--rdzv-backend=c10d", "--rdzv-id=this", f"--rdzv-endpoint=127.0.0.1:{port}"]
        words += [
            f"--local-addr={ADDRESSES[name]}",
            f"--rdzv-conf={conf}",
            "--max-restarts=2",
            "-m",
            "tunit",
            "train",
        ]
        words += [
            str(tmp_path / "pictures"),
            "--out",
            str(tmp_path / "run"),
            "--preset=paper",
            *flags(**SETTINGS),
        ]
        # With this flag a machine that comes back must not replace the run.
        with (tmp_path / f"{next(numbers)}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    [*words, "--overwrite"],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            )
        return started[-1]

    yield start, started
    for process in started:  # before they are killed, so that they end their processes
        process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_machine_that_was_lost_joins_again_with_the_same_command(machines, tmp_path, ended_by):
    start, started = machines

    def newest():
        found = checkpoints(tmp_path / "run" / "checkpoints")
        return found[-1].stem if found else ""

    def said():
        return {path.name: path.read_text() for path in tmp_path.glob("*.log")}

    def resumed(log):
        # torchrun counts a restart only if the process that stays has ended before the machine comes back.
        counted, uncounted = "restart 1: the processes resume", "so it goes on from its last checkpoint"
        return log.count(counted) + log.count(uncounted)

    def wait_for(condition):
        end = time.monotonic() + 120
        while not condition():
            running = [process for process in started if process.poll() is None]
            assert len(running) == 2 and time.monotonic() < end, said()
            time.sleep(0.1)

    start("stays"), start("returns")
    wait_for(newest)
    lost = started.pop()
    lost.send_signal(ended_by)
    assert lost.wait(120) == (128 + signal.SIGTERM if ended_by == signal.SIGTERM else -signal.SIGKILL)
    start("returns")
    # Only then is the newest checkpoint that of the processes that were stopped: they may still have been saving it.
    wait_for(lambda: resumed(said()["2.log"]))
    stopped = newest()
    wait_for(lambda: newest() > stopped)
    assert resumed(said()["2.log"]) == 1, said()


@pytest.mark.parametrize(
    ("name", "restarted", "begun"),
    [("this", 0, True), ("this", 2, True), ("other", 0, False), ("none", 0, False), ("none", 1, True)],
)
def test_a_job_with_a_name_goes_on_with_its_run_at_any_count_of_restarts(
    tmp_path, monkeypatch, capsys, name, restarted, begun
):
    """torchrun's default name "none" is no name: its job is known by its process, whose ID may come again."""
    run = RunFolder(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
    run.about.write_text(json.dumps({"job": f"none/{os.getppid()}" if name == "none" else "this"}))
    assert begun_by_this_job(run, restarted) == begun
    say_it_goes_on(run, restarted)
    assert ("give another --out or another --rdzv-id" in capsys.readouterr().err) == (restarted == 0)


def test_a_new_launcher_with_rank_0_knows_from_the_others_that_the_run_was_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(RunError, match="does not hold their run"):
        check_not_moved(RunFolder(tmp_path / "run"), 1)


def test_a_job_that_names_other_pictures_means_another_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    monkeypatch.setattr(RunFolder, "read_about", lambda _: {"source": str(tmp_path / "pictures")})
    check_same_source(run, tmp_path / "pictures")
    with pytest.raises(
        RunError, match=r"\(this\) began .* with other pictures .*: give another --out or --rdzv-id"
    ):
        check_same_source(run, tmp_path / "others")
