"""Where a new run goes, and whether a run of which nothing was trained may give it its name."""

from pathlib import Path

from tunit.errors import RunError
from tunit.files.destination import STUDIO
from tunit.printing import command
from tunit.studio import jobs
from tunit.studio.workspace import Workspace
from tunit.training.new_run import MOVING, READY
from tunit.training.run_folder import LOCK, NEW

TRAINED_ON = "trained-on.csv"  # Teach's table in the new run; its labels.csv is what people say about it
# What the studio writes into the folder of a new run before its training has begun.
_OF_A_START = {jobs.JOB, jobs.LOG, jobs.STOP, TRAINED_ON}


def free_place(workspace: Workspace, name: str) -> Path:
    """The folder for a new run; a run of which nothing was trained gives its place.

    Raises RunError if something else is there, or if the studio shows a single run.
    """
    if any(run.path == workspace.root for run in workspace.runs()):
        raise RunError(
            f"this studio shows the single run {workspace.root.name}, and has no folder for others: end it, and open "
            f"the folder around it, as in `{command('studio', workspace.root.parent)}`"
        )
    out = workspace.root / name
    if (out.exists() or out.is_symlink()) and not never_began(out):
        raise RunError(f"{name} exists already: give the run another name")
    return out


def never_began(run: Path) -> bool:
    """Whether a folder holds only what the studio writes when it starts a training, and that training has ended.

    So nothing is lost if a new run takes its place.
    """
    try:
        if run.is_symlink() or (run / STUDIO).is_symlink() or not (run / STUDIO / jobs.JOB).is_file():
            return False
        names = {path.name for path in run.iterdir()}
        started = list((run / STUDIO).iterdir())
    except OSError:
        return False
    # With one of these marks, .new holds a whole run, which only has to be moved.
    whole = any((run / NEW / mark).exists() for mark in (READY, MOVING))
    others = names - {LOCK, STUDIO, NEW}
    strange = any(path.is_symlink() or path.name not in _OF_A_START for path in started)
    return not (whole or others or strange or jobs.state_of(run).runs)
