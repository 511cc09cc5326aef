"""Files that are being written: what killed processes have left is removed, and nothing else."""

import os
import re
import socket
import subprocess
import sys
import time

import pytest

from tunit.files import partials
from tunit.files.atomic import replacing, write_text
from tunit.files.destination import clear_unfinished
from tunit.files.partials import HOST, clear_abandoned, partial_in

WRITES = """
import sys, time
from pathlib import Path
from tunit.files.destination import clear_unfinished
from tunit.files.atomic import replacing
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
    assert re.fullmatch(rf"\.tunit\.{re.escape(HOST)}\.{process.pid}\.\d+\.partial", name)
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


# Holds its lock on a file and on a folder, as a process of another container does that has this machine name and ID.
HOLDS = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from tunit.files.partials import write_lock
with ExitStack() as stack:
    for path in sys.argv[1:]:
        stack.enter_context(write_lock(Path(path)))
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_another_container_with_our_machine_name_and_process_id_writes_stays(tmp_path):
    host, own = socket.gethostname(), os.getpid()
    file = tmp_path / f".tunit.{HOST}.{own}.7.partial"
    folders = [tmp_path / f".unfinished.{host}.{own}{end}" for end in ("", ".x12ab34cd")]
    file.touch()
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", HOLDS, str(file), *map(str, folders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        clear_abandoned(tmp_path)
        clear_unfinished(tmp_path)
        assert names(tmp_path) == sorted([file.name, *(folder.name for folder in folders)])
        other.kill()
        other.wait()
    clear_abandoned(tmp_path)
    clear_unfinished(tmp_path)
    assert names(tmp_path) == []


def test_processes_of_the_same_id_do_not_choose_the_same_names(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; os.getpid = lambda: 7\n"
        "from tunit.files.partials import partial_in\n"
        "with partial_in(Path(sys.argv[1])) as path: print(path.name)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    made = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert made[0] != made[1]


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
