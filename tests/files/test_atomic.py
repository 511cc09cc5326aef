"""Atomic files, and locks that are released when their owner ends."""

import os
import socket
import subprocess
import sys

import pytest

from tunit.errors import RunError
from tunit.files import atomic
from tunit.files.atomic import (
    LockedError,
    clear_leftovers,
    lock,
    owner_of,
    replacing,
    write_bytes,
    write_text,
)


def test_a_file_is_complete_and_has_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a.json", "{}\n\udcff")
    (tmp_path / "by hand").touch()
    assert (tmp_path / "a.json").read_bytes() == b"{}\n\xff"
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "by hand").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "by hand"]


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path, stop):
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with pytest.raises(type(stop)), replacing(path) as partial:
        partial.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise stop
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_data_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(atomic.os, "fsync", lambda number: calls.append((tmp_path / "a").exists()))
    write_text(tmp_path / "a", "x")
    assert calls == [False, True]  # first the file, then its folder
    write_bytes(tmp_path / "a", b"y", durable=False)
    assert len(calls) == 2


def test_the_longest_possible_name_is_written_and_a_longer_one_is_one_sentence(tmp_path):
    write_text(tmp_path / ("a" * 255), "x")
    with pytest.raises(RunError, match=r"cannot be written \(File name too long\): check its folder"):
        write_text(tmp_path / ("a" * 256), "x")
    with pytest.raises(RunError, match=r"cannot be written \(No such file or directory\)"):
        write_text(tmp_path / "none" / "a", "x")


def test_only_files_of_killed_jobs_are_removed(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    dead, living = int(ended.stdout), os.getppid()
    left = [f".{dead}.1.partial", f".{os.getpid()}.9.partial", "model.safetensors.partial", ".tmpA1b2C3"]
    kept = [f".{living}.1.partial", "step_00000001.safetensors", ".tmp", "partial", ".tmpfile-of-mine"]
    for name in left + kept:
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(kept)
    clear_leftovers(tmp_path / "nowhere")


def test_a_lock_has_one_owner_and_names_it(tmp_path):
    path = tmp_path / ".lock"
    assert owner_of(path) is None
    with lock(path) as reason:
        assert reason == ""
        me = f"process {os.getpid()} on {socket.gethostname()}"
        assert owner_of(path) == me
        with (
            pytest.raises(LockedError, match=f"{tmp_path} is in use by {me}: wait until it has ended"),
            lock(path),
        ):
            pass
    assert not path.exists()
    path.write_text("left by a version that did not remove it")
    assert owner_of(path) is None
    with lock(path):
        pass


def test_a_lock_is_released_however_its_owner_ends(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from tunit.files.atomic import lock\n"
        "with lock(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    path = tmp_path / ".lock"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(LockedError, match=f"process {process.pid} on "), lock(path):
            pass
        process.kill()
        process.wait()
    assert path.exists()
    assert owner_of(path) is None
    with lock(path):
        pass


def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    """`owner_of`, with which the studio asks again and again, holds the lock like this for some microseconds."""
    import fcntl

    path = tmp_path / ".lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(file, fcntl.LOCK_UN))
        with lock(path) as reason:
            assert reason == ""


def test_without_locks_in_the_file_system_the_reason_is_given(tmp_path, monkeypatch):
    import fcntl

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock(tmp_path / ".lock") as reason:
        assert reason == "No locks available"


def test_the_lock_of_another_folder_that_was_moved_to_the_same_place_is_kept(tmp_path):
    path = tmp_path / "a" / ".lock"
    path.parent.mkdir()
    with lock(path):
        path.parent.rename(tmp_path / "b")
        path.parent.mkdir()
        path.write_text("another's")
    assert path.read_text() == "another's"
