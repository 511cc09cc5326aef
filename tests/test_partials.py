"""Files that are being written: what killed processes have left is removed, and nothing else."""

import os
import subprocess
import sys
import time

import pytest

from tunit import partials
from tunit.files import replacing, write_text
from tunit.partials import HOST, clear_abandoned, partial_in

WRITES = """
import sys, time
from pathlib import Path
from tunit.files import replacing
with replacing(Path(sys.argv[1]) / "big") as partial:
    partial.write_bytes(b"half")
    print(partial.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A process that writes a file: its folder, its partial file, and how to kill it."""
    folder = tmp_path_factory.mktemp("writer")
    process = subprocess.Popen([sys.executable, "-c", WRITES, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        yield folder, process.stdout.readline().strip(), process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_living_writer_keeps_its_file_and_a_killed_one_does_not(writer, monkeypatch):
    folder, name, process = writer
    assert name == f".tunit.{HOST}.{process.pid}.0.partial"
    clear_abandoned(folder)
    # On another machine, or in another container, its process ID means nothing; its lock does.
    os.utime(folder / name, (1, 1))
    monkeypatch.setattr(partials, "HOST", "elsewhere")
    clear_abandoned(folder)
    assert names(folder) == [name]
    process.kill()
    process.wait()
    clear_abandoned(folder)
    assert names(folder) == []


def test_the_next_write_removes_what_is_left_there_and_nothing_else(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    dead, living = int(ended.stdout), os.getppid()
    gone = [
        f".tunit.{HOST}.{dead}.0.partial",
        f".{dead}.140.partial",
        f".tunit.{HOST}.{os.getpid()}.999.partial",
    ]
    gone += [".tunit.elsewhere.1.0.partial"]
    kept = [f".tunit.{HOST}.{living}.0.partial", f".{living}.1.partial", ".tunit.elsewhere.1.1.partial"]
    kept += ["film.mp4.partial", ".tmpA1b2C3", f"{dead}.1.partial", f".x{dead}.1.partial", ".tunit-results"]
    for name in gone + kept:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".tunit.elsewhere.1.0.partial", (time.time() - 61,) * 2)
    (tmp_path / f".{dead}.2.partial").mkdir()
    write_text(tmp_path / "new", "x")
    assert names(tmp_path) == sorted([*kept, f".{dead}.2.partial", "new"])


def test_files_of_this_process_stay(tmp_path):
    with replacing(tmp_path / "a") as one, partial_in(tmp_path) as other:
        clear_abandoned(tmp_path)
        assert names(tmp_path) == sorted([one.name, other.name])
        one.write_bytes(b"new")
    assert names(tmp_path) == ["a"]


def test_a_file_system_without_locks_is_asked_for_processes_only(writer, tmp_path, monkeypatch):
    import fcntl

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for name in (f".tunit.{HOST}.{os.getppid()}.0.partial", ".tunit.elsewhere.1.0.partial"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / f".tunit.{HOST}.{2**22 + 1}.0.partial").touch()
    write_text(tmp_path / "new", "x")
    assert names(tmp_path) == sorted(
        [f".tunit.{HOST}.{os.getppid()}.0.partial", ".tunit.elsewhere.1.0.partial", "new"]
    )
