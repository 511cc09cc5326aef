"""Locking a run's folder, and replacing what it holds with a new run.

A new run is prepared in the hidden folder .new, and checked before the old run is removed. Of the old content, only
what a run consists of is removed, with the results of commands about its model: other runs, results and files that
people keep there stay. If the process is killed while it prepares the run, .new is ignored. If it is killed while it
moves files, the next process that enters `locked_and_tidied` moves the rest.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tunit.errors import RunError
from tunit.files.atomic import LockedError, clear_leftovers, lock, owner_of, writable, write_text
from tunit.files.result_names import DOMAINS, EXPORT, KEPT, REPORT, RUNTIME, TABLE, THUMBNAILS
from tunit.printing import remark
from tunit.training.results_inside import domains_in, export_in, is_left_behind, is_own_folder
from tunit.training.run_folder import BEST, EVALUATED, EVALUATION, HIDDEN, LOCK, NEW, WRITTEN, RunFolder

# Marker files in .new. "ready": the new run is complete, and the old files may be removed. "moving": the old files
# are gone, and the new files are being moved out of .new.
READY, MOVING = "ready", "moving"
# Files that a development version before 0.1.0 left if it was killed while it packed pictures.
_PACK_ONLY = {"data", "config.toml"}
_REMEDY = "give a folder that can be written, and check the space on its disk"


def check_free(run: RunFolder, *, overwrite: bool, owned: bool = False, resumable: bool = True) -> None:
    """Raises RunError if the folder is not empty; with `overwrite`, only if it holds something other than a run.

    owned: this process has the lock. If False, a lock of another process is an error, too. resumable: the command has
    a flag --resume.
    """
    with writable(run.path, "give another folder"):
        if not run.exists():
            return
        if not run.path.is_dir():
            raise RunError(f"{run.path} is a file: give a folder")
        owner = None if owned else owner_of(run.path / LOCK)
        if owner:
            raise in_training(run, owner)
        if not overwrite:
            resume = " --resume it," if resumable else ""
            raise RunError(f"{run.path} exists already: give another --out,{resume} or --overwrite it")
        names = {path.name for path in run.path.iterdir()} - HIDDEN
        pack_only = names <= _PACK_ONLY and (run.data / ".tunit-cache").is_file()
        # After a replacement that was interrupted, the old files may be gone, and the new ones not in place yet.
        begun = any((run.path / NEW / mark).is_file() for mark in (READY, MOVING))
        if not run.about.is_file() and not pack_only and not begun:
            raise RunError(
                f"{run.path} exists and is not the folder of a run, so it stays as it is: give another --out"
            )


def check_begun(run: RunFolder) -> None:
    """Raises RunError, and changes nothing, if the process that prepared a new run in this folder was killed, or if
    it still prepares it.
    """
    new = run.path / NEW
    if not new.is_dir() or run.exists() or any((new / mark).is_file() for mark in (READY, MOVING)):
        return
    if owner := owner_of(run.path / LOCK):
        raise in_training(run, owner)
    raise RunError(f"{run.path} was stopped before its first step: run the command that started it again")


def in_training(run: RunFolder, owner: str) -> RunError:
    """The error for a run that another process is training."""
    return RunError(
        f"{run.path} is being trained by {owner}: wait until it has ended, or stop it (Ctrl-C saves)"
    )


@contextmanager
def locked_and_tidied(run: RunFolder) -> Iterator[None]:
    """Inside the block the folder exists and this process has its lock. Before, if a process was killed while it
    replaced the run, the old run is removed and the new one moved into place; other leftovers of killed processes are
    removed. So the folder must be tunit's alone. Folders that were made here are removed at the end if still empty.

    Raises RunError if another process has the lock.
    """
    with locking(run):
        with writable(run.path, _REMEDY):
            _finish(run)
            for folder in (
                run.path,
                run.checkpoints,
                run.samples,
                run.path / BEST,
                run.path / EVALUATION,
            ):
                clear_leftovers(folder)
        yield


@contextmanager
def locking(run: RunFolder) -> Iterator[None]:
    """As `locked_and_tidied`, but nothing that is in the folder already is changed or removed."""
    made = _missing_folders(run.path)
    try:
        with ExitStack() as stack:
            with writable(run.path, _REMEDY):
                run.path.mkdir(parents=True, exist_ok=True)
                try:
                    without = stack.enter_context(lock(run.path / LOCK))
                except LockedError as error:
                    raise in_training(run, error.owner) from None
            if without:
                remark(
                    f"the file system of {run.path} does not support locks ({without}): make sure that no other "
                    "process trains in it"
                )
            yield
    finally:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # no longer empty
                break


def _missing_folders(path: Path) -> list[Path]:
    """Which of the folder and its parents do not exist, innermost first."""
    with writable(path, "give another folder"):
        return [folder for folder in (path, *path.parents) if not folder.exists()]


@contextmanager
def preparing(run: RunFolder, name: str = NEW) -> Iterator[RunFolder]:
    """An empty folder of this name inside a locked `run`, to prepare a new run in; removed at the end."""
    new = RunFolder(run.path / name)
    with writable(run.path):
        remove(new.path)
        new.path.mkdir()
    try:
        yield new
    finally:
        if not any((new.path / mark).exists() for mark in (READY, MOVING)):
            shutil.rmtree(new.path, ignore_errors=True)


def move_into_place(run: RunFolder) -> None:
    """Replace the run in the folder with the prepared one. Raises RunError."""
    with writable(run.path):
        write_text(run.path / NEW / READY, "")
        _finish(run)


def _finish(run: RunFolder) -> None:
    """Finish an interrupted `move_into_place`, or remove what an interrupted preparation left."""
    new = run.path / NEW
    ready, moving = new / READY, new / MOVING
    if ready.exists():
        remove_run(run)
        ready.rename(moving)
    if moving.exists():
        for path in new.iterdir():
            if path != moving:
                path.rename(run.path / path.name)
    remove(new)


def remove_run(run: RunFolder) -> None:
    """Remove what a run consists of, and nothing that somebody else keeps in its folder. Raises OSError."""
    for path in _parts(run):
        remove(path)
    for folder in _folders_of_results(run):
        if not any(folder.iterdir()):
            folder.rmdir()


def kept_beside(run: RunFolder) -> list[Path]:
    """What lies in the folder of a run and is no part of it, except what tunit or the system has left there."""
    if not is_own_folder(run.path):
        return []
    results, parts = _folders_of_results(run), set(_parts(run))
    known = parts | {*results, *(run.path / name for name in HIDDEN)}
    if run.path / DOMAINS / TABLE in parts:
        known.add(run.path / DOMAINS / KEPT)
    entries = [path for folder in (run.path, *results) for path in sorted(folder.iterdir())]
    return [path for path in entries if path not in known and not is_left_behind(path)]


def _parts(run: RunFolder) -> list[Path]:
    """The files and folders that a run consists of, with its report, and the results of commands about its model."""
    parts = [path for path in run.path.iterdir() if path.name in WRITTEN] if run.path.is_dir() else []
    parts = [path for path in parts if path.name != REPORT or path.is_file()]
    evaluation = run.path / EVALUATION
    if is_own_folder(evaluation):
        parts += [p for p in evaluation.iterdir() if p.name in EVALUATED or p.suffix == ".safetensors"]
    return parts + domains_in(run.path / DOMAINS) + export_in(run.path / EXPORT)


def _folders_of_results(run: RunFolder) -> list[Path]:
    """The folders in which commands leave results about a run, innermost first."""
    export = run.path / EXPORT
    inside = [export / RUNTIME, export / THUMBNAILS] if is_own_folder(export) else []
    folders = (*inside, export, run.path / DOMAINS, run.path / EVALUATION)
    return [folder for folder in folders if is_own_folder(folder)]


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content, if it exists."""
    if is_own_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
