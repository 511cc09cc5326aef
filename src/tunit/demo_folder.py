"""The folder of a demo: where a new demo is prepared, and which entries of an earlier one it replaces.

People keep other things in this folder, such as trainings of the studio and translations. So only entries that have
the names below are ever removed.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tunit.errors import RunError
from tunit.files.atomic import DEMO, lock, owner_of, writable, write_text
from tunit.files.destination import STUDIO
from tunit.files.reading import Record, UnreadableError, is_file, read_json
from tunit.printing import listed
from tunit.training.new_run import (
    in_training,
    kept_beside,
    locking,
    preparing,
    remove,
)
from tunit.training.results_inside import is_own_folder
from tunit.training.run_folder import HIDDEN, LOCK, RunFolder

PREPARED = ".tunit-demo-new"  # the folder in which a new demo is prepared; a killed demo leaves it
NAMED = 3  # this many of the files that stand in the way are named, the others counted
WRITTEN = ("creatures", "run", "translations.png", "domains.png", "summary.json", "report.html")


@contextmanager
def preparing_demo(out: Path, overwrite: bool) -> Iterator[Path]:
    """Inside the block this process has the lock of `out`; yields an empty folder in it, to prepare a demo in.

    Raises RunError as `check_replaceable`, and if another process has the lock.
    """
    check_replaceable(out, overwrite)
    # Not `locked_and_tidied`, which removes files that look like leftovers of a run: `out` is not tunit's alone.
    with locking(RunFolder(out)), preparing(RunFolder(out), PREPARED) as new:
        yield new.path


def replace_earlier(out: Path, new: Path, overwrite: bool) -> None:
    """Remove an earlier demo in `out`, and move the creatures of the new one, prepared in `new`, into place.

    Raises RunError as `check_replaceable`; then nothing was removed.
    """
    check_replaceable(out, overwrite)
    with ExitStack() as held, writable(out):
        if is_own_folder(out / "run"):
            held.enter_context(lock(out / "run" / LOCK))  # so that nobody resumes it meanwhile
        write_text(out / DEMO, "")  # first, so that this can be done again if the process is killed here
        _remove_earlier(out)
        (new / "creatures").rename(out / "creatures")


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Raises RunError if `out` is not an earlier demo that may be replaced, if a run below is in training, or if
    somebody keeps other things in the demo's run.
    """
    if not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= HIDDEN | {PREPARED}):
        return
    if not _is_demo(out):
        raise RunError(f"{out} exists already, and is not an earlier demo: give another --out")
    if not overwrite:
        raise RunError(f"{out} exists already: give another --out, or --overwrite the earlier demo")
    for parent, _, files in os.walk(out):
        run = RunFolder(Path(parent))
        if LOCK in files and run.path != out and (owner := owner_of(run.path / LOCK)):  # `out` is our own
            raise in_training(run, owner)
    if kept := [str(path) for path in kept_beside(RunFolder(out / "run"))]:
        are, them = ("is", "it") if len(kept) == 1 else ("are", "them")
        raise RunError(
            f"{listed(kept, NAMED)} {are} no part of the demo's run, which is replaced as a whole: move {them} "
            "elsewhere, or give another --out"
        )


def _is_demo(out: Path) -> bool:
    """Whether a demo has begun in this folder. Development versions before 0.1.0 left no mark, only figures."""
    if is_file(out / DEMO):
        return True
    try:
        return Record(read_json(out / "summary.json")).number("translation_error_ratio") >= 0
    except UnreadableError:
        return False


def _remove_earlier(out: Path) -> None:
    """Remove only what an earlier demo wrote; labels from the studio stay, as with `tunit train --overwrite`."""
    for name in WRITTEN:
        if name == "run" and is_own_folder(out / name):
            for part in (out / name).iterdir():
                if part.name not in (LOCK, STUDIO):
                    remove(part)
        else:
            remove(out / name)
