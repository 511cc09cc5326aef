"""Files that are whole or not there at all, and locks that end with their owner.

A file is written beside its place, flushed to the disk and then moved: whenever a job is killed, its place holds the
whole of what was there before or the whole of what is new. `clear_leftovers` removes what is left beside it.
"""

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tunit.errors import RunError

# `replacing` names its files .PROCESS.THREAD.partial; versions before wrote NAME.partial, and safetensors .tmpXXXXXX.
_LEFTOVER = re.compile(r"(?:\.(?P<process>\d+)\.\d+|.+)\.partial|\.tmp\w{6}")
# An empty file that marks a folder of results, so that they are not taken for pictures.
RESULTS = ".tunit-results"
_LONGEST_OWNER = 1000  # bytes of a lock's file that are read


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A file to write beside `path`; it takes the place of `path` where the block ends well, else it goes.

    durable: on the disk before it takes its place; of use where it would be hard to make again. Raises OSError.
    """
    # Not the file's own name, which may be as long as can be; one for each thread that writes.
    partial = path.parent / f".{os.getpid()}.{threading.get_ident()}.partial"
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Let a new name in a folder outlive a power cut, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all. Raises UnwritableError."""
    with writable(path), replacing(path, durable=durable) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all; bytes that `surrogateescape` let in go out as they were.

    Raises UnwritableError.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


class UnwritableError(RunError):
    """A file cannot be written; `what` says which and why, without a remedy."""

    def __init__(self, path: Path, error: OSError, remedy: str) -> None:
        self.what = f"{path} cannot be written ({reason_of(error)})"
        super().__init__(f"{self.what}: {remedy}")


@contextmanager
def writable(path: Path, remedy: str = "check its folder and the space on its disk") -> Iterator[None]:
    """Turn an OSError of the block, in which `path` is written, into a sentence. Raises UnwritableError."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(path, error, remedy) from None


def reason_of(error: OSError) -> str:
    """What the system says of an error, without numbers and names."""
    return error.strerror or str(error) or type(error).__name__


def clear_leftovers(folder: Path) -> None:
    """Remove what killed jobs have left half-written in `folder`, but nothing that another process here writes now.

    To be called by the process that owns the folder, before it writes there itself.
    """
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        found = _LEFTOVER.fullmatch(path.name)
        if found and path.is_file() and not is_running(found["process"]):
            path.unlink(missing_ok=True)


def is_running(process: str | None) -> bool:
    """Whether another process with this process ID runs on this machine."""
    if process is None or sys.platform == "win32" or int(process) == os.getpid():
        return False  # our own ID was a dead process's before, as happens in containers
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # it belongs to another user
    return True


class LockedError(RunError):
    """Something has a lock; `owner` says who, as far as is known."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path.parent} is in use by {owner}: wait until it has ended, or end it")
        self.owner = owner


@contextmanager
def lock(path: Path) -> Iterator[str]:
    """Hold an exclusive lock on the file `path` inside the block; the system frees it when this process ends.

    Gives "" or, where the file system has no locks, the reason: then nothing keeps other processes out.
    Raises LockedError where another process holds it, OSError where the file cannot be made.
    """
    if sys.platform == "win32":
        yield "Windows"
        return
    import fcntl

    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise LockedError(path, _owner(file.read(_LONGEST_OWNER))) from None
        except OSError as error:  # such as of a network file system whose server keeps no locks
            file.close()
            yield reason_of(error)
            return
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        file.close()  # its owner has removed it meanwhile: another may lock what is there now
    with file:
        about = {"host": socket.gethostname(), "process": os.getpid()}
        file.truncate(0)
        with suppress(OSError):  # on a full disk the lock holds, but does not say who holds it
            file.write(json.dumps(about | {"since": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n")
            file.flush()
        try:
            yield ""
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def owner_of(path: Path) -> str | None:
    """Who has the lock of `path` now; None where nobody has, or where that cannot be told."""
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
        about = json.loads(text)
        return f"process {int(about['process'])} on {about['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
