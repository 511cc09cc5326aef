"""Check, before the work begins, that results can be written, so that no work is lost.

A command calls `check_file` or `check_folder` first. `staged` holds results back until all of them are complete.
"""

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tunit.errors import RunError, reason_of
from tunit.files.atomic import writable
from tunit.files.partials import is_free, is_running, write_lock

SIGNS_OF_A_RUN = "run.json", "config.toml"
OF_A_RUN = {
    *SIGNS_OF_A_RUN, "pictures.csv", "metrics.jsonl", "model.json", "model.safetensors", "data", "checkpoints",
    "samples", "tensorboard", "best", "non_finite", "number_of_domains.json", ".new", ".lock",
}  # fmt: skip
# The folder in a run for files of the studio: logs of trainings that it started, labels that people gave.
STUDIO = "studio"
LONGEST_NAME = 255  # bytes of one part of a path; used if the system does not say what its limit is
PROBE = bytes(4096)  # bytes that are written to check whether there is space
# Its last part is random, because containers may have the same machine name and the same process IDs. Names
# of older versions lack it.
_UNFINISHED = re.compile(r"\.unfinished\.(?P<host>.*?)\.(?P<process>\d+)(?:\.x[0-9a-f]+)?")
_mine = set[str]()  # names of the hidden folders that this process fills now


def check_apart(path: Path, flag: str = "--out") -> None:
    """Raises RunError if `path` is, or lies in, one of the files and folders of which a run consists.

    Results of commands in a run (evaluation/, domains/, report.html) may be written there.
    """
    with suppress(OSError, ValueError, RuntimeError):  # the other checks report an impossible path
        place = path.resolve()
        for folder in place.parents:
            if place.relative_to(folder).parts[0] in OF_A_RUN and all(
                (folder / name).is_file() for name in SIGNS_OF_A_RUN
            ):
                raise RunError(
                    f"{path} is a part of the run {folder}, which must not be changed: give another {flag}"
                )


def check_file(path: Path, keep: Iterable[Path | None] = ()) -> None:
    """Check, as far as possible, that a file can be written at `path`. An older file may be there.

    keep: files that are never overwritten, such as the sources. The check leaves nothing on the disk, and makes no
    folders. Raises RunError with the reason.
    """
    check_apart(path)
    there = _status(path)
    for source in keep:
        if there is not None and source is not None and _is_same(source, there):
            raise RunError(f"{path} is itself a source: give another --out")
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise RunError(f"{path} is a folder: give the name of a file as --out")
    if there is not None and not stat.S_ISREG(there.st_mode):
        raise RunError(f"{path} is not an ordinary file, so it is not replaced: give another --out")
    _check_place(path, path.parent)


def check_earlier(path: Path, is_earlier: Callable[[Path], bool], what: str) -> None:
    """Raises RunError if a file is at `path` that the same command has not written: it may be one of the pictures.

    An empty file may be replaced. Call `check_file` first. is_earlier: whether a file has the content of an earlier
    result; OSError counts as no. what: what such a result is called, such as "a report of `tunit report`".
    """
    there = _status(path)
    with suppress(OSError):
        if there is None or not there.st_size or is_earlier(path):
            return
    raise RunError(f"{path} exists already, and is not {what}: give another --out")


def _is_same(source: Path, there: os.stat_result) -> bool:
    """Whether `source` is the file of a status, also by another name."""
    try:
        return os.path.samestat(source.stat(), there)
    except (OSError, ValueError):  # it does not exist, or a null character
        return False


def check_folder(path: Path, flag: str = "--out") -> None:
    """Check, as far as possible, that files can be written into the folder `path`, which need not exist.

    The check leaves nothing on the disk. Raises RunError with the reason.
    """
    check_apart(path, flag)
    there = _status(path, flag)
    if there is not None and not stat.S_ISDIR(there.st_mode):
        raise RunError(f"{path} is a file: give a folder as {flag}")
    _check_place(path, path, flag)


def _status(path: Path, flag: str = "--out") -> os.stat_result | None:
    """The status of what is at `path`, after links were followed; None if there is nothing."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise RunError(f"{path} is a link to nothing: remove it, or give another {flag}") from None
        return None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise _refused(path, error, flag) from None


def _check_place(path: Path, folder: Path, flag: str = "--out") -> None:
    """Try to write into `folder`, or into the nearest folder above it that exists."""
    for above in (folder, *folder.parents):
        there = _status(above, flag)
        if there is not None:
            break
    else:
        raise RunError(f"{path} cannot be written (there is no such folder): give another {flag}")
    if not stat.S_ISDIR(there.st_mode):
        raise RunError(f"{path} cannot be written ({above} is a file, not a folder): give another {flag}")
    longest = LONGEST_NAME
    with suppress(OSError, ValueError, AttributeError):  # some systems do not give their limit
        longest = os.pathconf(above, "PC_NAME_MAX")
    for part in path.parts:
        if len(os.fsencode(part)) > longest:
            raise _refused(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)), flag)
    try:
        # Try to write instead of checking permissions: root may write anywhere, and the disk may be full.
        with tempfile.TemporaryFile(dir=above) as probe:
            probe.write(PROBE)
            probe.flush()
    except OSError as error:
        raise _refused(path, error, flag) from None


def _refused(path: Path, error: OSError | ValueError, flag: str) -> RunError:
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return RunError(f"{path} cannot be written ({reason}): give another {flag}")


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """`folder`, made if it is missing; a temporary folder if it cannot be written, such as in a read-only run."""
    try:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except (RunError, OSError):
        with tempfile.TemporaryDirectory(prefix="tunit-") as scratch:
            yield Path(scratch)
    else:
        yield folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` to write results to; they move to `folder` if the block ends without an error.

    Before that, the content of `folder` does not change; then only files with the same names are replaced. Hidden
    folders of killed jobs are removed. Raises RunError if `folder` cannot be written.
    """
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    stage = folder / f".unfinished.{socket.gethostname()}.{os.getpid()}.x{secrets.token_hex(4)}"
    _mine.add(stage.name)
    try:
        with ExitStack() as lock:
            with writable(folder, "give another folder"):
                folder.mkdir(parents=True, exist_ok=True)
                clear_unfinished(folder)
                stage.mkdir()
                lock.enter_context(write_lock(stage))
            yield stage
            with writable(folder, "check its space, and call again"):
                move_into(folder, stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        _mine.discard(stage.name)
        for made in missing:  # innermost first; only those that are still empty can be removed
            with suppress(OSError):
                made.rmdir()


def move_into(folder: Path, stage: Path) -> None:
    """Move the content of `stage` to `folder`, folders before files, so that a table comes after the files it
    lists. Raises OSError; RunError, before anything is moved, if a folder is in the way of a file, or the reverse.
    """
    _check_kinds(folder, stage)
    _move(folder, stage)


def _check_kinds(folder: Path, stage: Path) -> None:
    """Raises RunError if moving would meet a folder where a file belongs, or the reverse."""
    for path in stage.iterdir():
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _check_kinds(target, path)
        elif path.is_dir() and os.path.lexists(target):
            raise RunError(
                f"{target} is a file, and a folder is to be written there: move it away, or give another folder"
            )
        elif target.is_dir() and not target.is_symlink():  # a link is replaced
            raise RunError(
                f"{target} is a folder, and a file is to be written there: move it away, or give another folder"
            )


def _move(folder: Path, stage: Path) -> None:
    for path in sorted(stage.iterdir(), key=lambda path: (path.is_file(), path.name)):
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _move(target, path)
        else:
            path.replace(target)


def clear_unfinished(folder: Path) -> None:
    """Remove the hidden folders of `staged` that killed jobs of this machine have left in `folder`."""
    for path in list(folder.iterdir()):
        found = _UNFINISHED.fullmatch(path.name)
        if not found or found["host"] != socket.gethostname() or path.name in _mine:
            continue
        with suppress(OSError):
            # In another container, a process with this ID may run all the same. The lock tells.
            if not is_running(found["process"]) and is_free(path) is not False:
                shutil.rmtree(path, ignore_errors=True)


def is_occupied(folder: Path) -> bool:
    """Whether a folder holds anything except unfinished results of killed jobs."""
    return any(not is_unfinished(path.name) for path in folder.iterdir())


def is_unfinished(name: str) -> bool:
    """Whether this is the name of a hidden folder of `staged`."""
    return _UNFINISHED.fullmatch(name) is not None
