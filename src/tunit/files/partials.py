"""Files that are being written: their names, who owns each, and what killed processes have left of them.

The name contains the machine and the process. The process also holds a lock on its file, which the system frees when
it ends, so that other machines and containers can tell whether it still writes.
"""

import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

HOST = re.sub(r"[^\w.-]", "_", socket.gethostname())[:64]
# In development versions before 0.1.0, the names contained neither "tunit" nor the machine.
_NAME = re.compile(r"\.(?:tunit\.(?P<host>.+)\.)?(?P<process>\d+)\.\d+\.partial")
_OLD_SECONDS = 60  # a file without a lock that has not changed for this many seconds is not being written
# The first number is random, because containers may have the same machine name and the same process IDs.
_numbers = count(secrets.randbits(40))
_mine = set[str]()  # names of the files that this process writes now
_cleared = set[str]()  # folders that were cleared by this process
_lock = threading.Lock()


@contextmanager
def partial_in(folder: Path) -> Iterator[Path]:
    """A new file in `folder` that belongs to this process; it is removed at the end, unless it was moved away.

    Before this process makes its first one in a folder, it removes what killed processes have left there. Raises
    OSError.
    """
    with _lock:
        place = os.path.abspath(folder)  # noqa: PTH100 (Path.absolute keeps `..`)
        if place not in _cleared:
            clear_abandoned(folder)
            _cleared.add(place)
    path = folder / f".tunit.{HOST}.{os.getpid()}.{next(_numbers)}.partial"
    _mine.add(path.name)
    try:
        path.touch(exist_ok=False)
        with write_lock(path):
            yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        _mine.discard(path.name)


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """A context in which a lock on the file, or folder, says that it is being written.

    Raises OSError if it cannot be opened.
    """
    if sys.platform == "win32":  # on Windows an open file cannot be moved
        yield
        return
    import fcntl

    with _opened(path) as number:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_SH)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The descriptor of a file, open for writing as NFS needs it for locks, or of a folder. Raises OSError."""
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        yield number
    finally:
        os.close(number)


def clear_abandoned(folder: Path) -> None:
    """Remove from `folder` those files made by `partial_in` that no living process owns, and nothing else."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name) if entry.name.startswith(".") else None
            if found and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    if _is_abandoned(Path(entry.path), found["host"], found["process"]):
                        Path(entry.path).unlink(missing_ok=True)


def is_partial(name: str) -> bool:
    """Whether this is the name of a file that `partial_in` made."""
    return _NAME.fullmatch(name) is not None


def is_running(process: str | None) -> bool:
    """Whether another process with this process ID runs on this machine."""
    if process is None or sys.platform == "win32" or int(process) == os.getpid():
        return False  # our own ID: an earlier process had it too, as happens in containers, and has ended
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # it belongs to another user
    return True


def _is_abandoned(path: Path, host: str | None, process: str) -> bool:
    here = host in (None, HOST)
    if here and path.name in _mine:
        return False
    own = here and int(process) == os.getpid()  # of an earlier process, or of one in another container
    if sys.platform == "win32":
        return own
    free = is_free(path)
    if free is False:
        return False
    if here and not is_running(process):
        return True
    # The owner may be a process of another machine or container, or its ID may now belong to another process. Then
    # only the lock counts; but safetensors replaces the file that it writes, which leaves it without a lock for a
    # moment. So the file must also be old.
    return bool(free) and host is not None and time.time() - path.stat().st_mtime > _OLD_SECONDS


def is_free(path: Path) -> bool | None:
    """Whether no process holds the file or folder; None if the system does not know. Raises OSError."""
    if sys.platform == "win32":
        return None
    import fcntl

    with _opened(path) as number:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
    return True
