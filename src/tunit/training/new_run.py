"""Who may write in a run's folder, and how a new run takes its place there.

A new run is prepared in a hidden folder inside its own, and all of it is checked before anything that was there goes.
What a killed preparation leaves is in nobody's way; a killed move is finished by the next that owns the folder.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tunit.errors import RunError
from tunit.files import LockedError, clear_leftovers, lock, owner_of, writable, write_text
from tunit.printing import remark
from tunit.training.run_folder import HIDDEN, LOCK, NEW, RunFolder

# Marks in the hidden folder: the new run is whole, what was there before may go; it is gone, the new run is moved.
READY, MOVING = "ready", "moving"
# All that an earlier version leaves where it is killed while it packs pictures.
_PACKED_ALONE = {"data", "config.toml"}


def check_free(run: RunFolder, *, overwrite: bool, owned: bool = False) -> None:
    """Raises RunError where something is in the way of a new run; with `overwrite`, where that is not a run.

    owned: by this process; else it is also an error where another owns the folder.
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
            raise RunError(f"{run.path} exists already: give another --out, --resume it, or --overwrite it")
        names = {path.name for path in run.path.iterdir()} - HIDDEN
        packed_alone = names <= _PACKED_ALONE and (run.data / ".tunit-cache").is_file()
        if not run.about.is_file() and not packed_alone:
            raise RunError(
                f"{run.path} exists and is not the folder of a run, so it stays as it is: give another --out"
            )


def in_training(run: RunFolder, owner: str) -> RunError:
    """The error where another process writes in the run."""
    return RunError(
        f"{run.path} is being trained by {owner}: wait until it has ended, or stop it (Ctrl-C saves)"
    )


@contextmanager
def owning(run: RunFolder) -> Iterator[None]:
    """While entered the folder is there, and this process alone writes in it; what killed ones left is cleared.

    What was not there before and is empty at the end is removed. Raises RunError where another process has it.
    """
    made = _missing_folders(run.path)
    try:
        with ExitStack() as stack:
            with writable(run.path, "give a folder that can be written, and check the space on its disk"):
                run.path.mkdir(parents=True, exist_ok=True)
                try:
                    without = stack.enter_context(lock(run.path / LOCK))
                except LockedError as error:
                    raise in_training(run, error.owner) from None
                if without:
                    remark(
                        f"the file system of {run.path} keeps no locks ({without}): see that no other process "
                        "trains in it"
                    )
                _finish(run)
                for folder in (
                    run.path,
                    run.checkpoints,
                    run.samples,
                    run.path / "best",
                    run.path / "evaluation",
                ):
                    clear_leftovers(folder)
            yield
    finally:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # no longer empty
                break


def _missing_folders(path: Path) -> list[Path]:
    """The folder and those around it that are not there, innermost first."""
    with writable(path, "give another folder"):
        return [folder for folder in (path, *path.parents) if not folder.exists()]


@contextmanager
def preparing(run: RunFolder) -> Iterator[RunFolder]:
    """An empty folder inside that of `run`, which this process owns, to prepare a new run in; gone at the end."""
    new = RunFolder(run.path / NEW)
    with writable(run.path):
        remove(new.path)
        new.path.mkdir()
    try:
        yield new
    finally:
        if not any((new.path / mark).exists() for mark in (READY, MOVING)):
            shutil.rmtree(new.path, ignore_errors=True)


def take_place(run: RunFolder) -> None:
    """Let what was prepared be the run; what was in its folder before goes. Raises RunError."""
    with writable(run.path):
        write_text(run.path / NEW / READY, "")
        _finish(run)


def _finish(run: RunFolder) -> None:
    """Go on with `take_place` where it was killed, or remove what was killed before it."""
    new = run.path / NEW
    ready, moving = new / READY, new / MOVING
    if ready.exists():
        for path in run.path.iterdir():
            if path.name not in HIDDEN:
                remove(path)
        ready.rename(moving)
    if moving.exists():
        for path in new.iterdir():
            if path != moving:
                path.rename(run.path / path.name)
    remove(new)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
