"""`tunit reproduce` is told to stop: no further row begins, in this process or in others."""

import os
import signal
import threading
import time

import pytest

from experiments_work import told_itself, until_told
from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import RunError, StopNow
from tunit.experiments import driver
from tunit.experiments.jobs import in_processes
from tunit.training.interrupt import Interrupted


def test_a_signal_ends_the_command_with_its_code_and_no_further_row_begins(tmp_path, monkeypatch, capsys):
    for i, name in enumerate("ab"):
        write_pictures(tmp_path / "data" / name, seed=i, number=5)
    begun = []

    def interrupted(table, row, plan, seed, say, split):
        begun.append(row.name)
        raise Interrupted(signal.SIGTERM, tmp_path / "run", 3)

    monkeypatch.setattr(driver, "run_row", interrupted)
    words = ["reproduce", "table1", "--data", tmp_path / "data", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 128 + signal.SIGTERM
    assert begun == ["A"]
    said = capsys.readouterr()
    assert "A, seed 0: stopped by SIGTERM after step 3, all saved" in said.err + said.out
    assert "the same command again goes on here" in said.out


def test_sigterm_reaches_the_workers_which_take_no_further_task(tmp_path):
    def stop():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(StopNow) as stopped:
        in_processes(until_told, [(tmp_path, name) for name in "abcdef"], 2)
    assert stopped.value.number == signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_worker_that_was_stopped_takes_no_further_task(tmp_path):
    with pytest.raises(StopNow):
        in_processes(told_itself, [(tmp_path, k) for k in range(5)], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_worker_that_dies_is_one_sentence():
    with pytest.raises(RunError, match=r"was ended from outside.*fewer --jobs"):
        in_processes(os._exit, [(1,)], 2)
