"""Atomic file writes, and locks that are released when their owner ends.

A file is written under another name in the same folder, flushed to the disk and then renamed. So if a job is killed,
there is either the complete old file or the complete new one. `clear_leftovers` removes unfinished files.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tunit.errors import RunError, reason_of
from tunit.files.partials import clear_abandoned, is_partial, partial_in, write_lock
from tunit.files.reading import Record, UnreadableError, parse_json

# Unfinished files in run folders: the names of development versions before 0.1.0, and those of safetensors.
_LEFTOVER = re.compile(r".+\.partial|\.tmp\w{6}")
_OF_SAFETENSORS = re.compile(r"\.tmp\w{6}")
# An empty file that marks a folder of results, so that these are not used as training pictures.
RESULTS = ".tunit-results"
DEMO = ".tunit-demo"  # an empty file: a demo has begun in this folder
# To ask for the owner of a lock, `owner_of` itself takes the lock for some microseconds. So one refusal does not mean
# that there is an owner: try this often, with pauses of so many seconds.
_ATTEMPTS, _PAUSE = 10, 0.01
_LONGEST_OWNER = 1000  # bytes that are read from a lock file


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary file to write, in the folder of `path`. It replaces `path` if the block succeeds; if not, it is
    removed.

    durable: flush it to the disk before it replaces `path`; False is faster, for files that are easy to make again.
    Raises OSError.
    """
    # The temporary name does not contain the name of `path`, because it could become too long.
    with partial_in(path.parent) as partial:
        yield partial
        with write_lock(partial):  # again, because safetensors replaces the file
            if durable:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
    if durable:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make sure that a new name in a folder survives a power cut, if the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically. Raises UnwritableError."""
    with writable(path), replacing(path, durable=durable) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, atomically; bytes that were read with `surrogateescape` are written unchanged.

    Raises UnwritableError.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


class UnwritableError(RunError):
    """A file cannot be written; `what` names the file and the reason, without a remedy."""

    def __init__(self, path: Path, error: OSError, remedy: str) -> None:
        self.what = f"{path} cannot be written ({reason_of(error)})"
        super().__init__(f"{self.what}: {remedy}")


@contextmanager
def writable(path: Path, remedy: str = "check its folder and the space on its disk") -> Iterator[None]:
    """A context in which `path` is written: an OSError becomes an UnwritableError of one sentence."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(path, error, remedy) from None


def clear_leftovers(folder: Path) -> None:
    """Remove half-written files of killed jobs from a folder that is tunit's alone, such as a run, except those that
    a process is still writing.

    Call it in the process that owns the folder, before it writes there itself.
    """
    if not folder.is_dir():
        return
    clear_abandoned(folder)
    for path in list(folder.iterdir()):
        if _LEFTOVER.fullmatch(path.name) and not is_partial(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def is_unfinished_file(name: str) -> bool:
    """Whether this is the name of a half-written file: of `replacing`, or of safetensors."""
    return is_partial(name) or _OF_SAFETENSORS.fullmatch(name) is not None


class LockedError(RunError):
    """Another process has a lock; `owner` describes it, as far as it is known."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path.parent} is in use by {owner}: wait until it has ended, or end it")
        self.owner = owner


@contextmanager
def lock(path: Path) -> Iterator[str]:
    """Hold an exclusive lock on the file `path` inside the block; the system frees it when this process ends.

    Yields "" or, if the file system has no locks, the reason; then nothing keeps other processes out. Raises
    LockedError if another process holds the lock, OSError if the file cannot be made.
    """
    if sys.platform == "win32":
        yield "Windows"
        return
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            if not _takes(file):
                with file:
                    file.seek(0)
                    raise LockedError(path, _owner(file.read(_LONGEST_OWNER)))
        except OSError as error:  # for example on a network file system without locks
            file.close()
            yield reason_of(error)
            return
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        file.close()  # the former owner has just removed this file, and another process may hold a new one: try again
    with file:
        about = {"host": socket.gethostname(), "process": os.getpid()}
        file.truncate(0)
        with suppress(OSError):  # on a full disk the lock works, but its owner cannot be written into it
            file.write(json.dumps(about | {"since": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n")
            file.flush()
        try:
            yield ""
        finally:
            with suppress(OSError):
                # The folder may have been moved, and another one with a lock of its own put in its place.
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    path.unlink()


def _takes(file: IO[str]) -> bool:
    """Whether this process gets the exclusive lock of an open file. Raises OSError if the system has no locks."""
    import fcntl

    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False


def owner_of(path: Path) -> str | None:
    """The process that holds the lock of `path` now; None if no process does, or if that is unknown."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        if not path.is_file():  # opening a pipe would wait for its other end
            return None
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _owner(file.read(_LONGEST_OWNER).decode("utf-8", "replace"))
    except OSError:
        pass
    return None


def _owner(text: str) -> str:
    try:
        about = Record(parse_json(text))
        return f"process {about.whole('process')} on {about.text('host')}"
    except UnreadableError:
        return "another process"
