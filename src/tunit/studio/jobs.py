"""Trainings that the studio starts: separate processes, which continue if the page or the studio is closed.

  RUN/studio/job.json     the process that was started last, and its command
  RUN/studio/stop.json    the process that was asked to stop, if one was since then
  RUN/studio/train.log    the output of this process and of earlier ones

The state of a training is read from these files, the run's lock, its checkpoints and its log, never from memory. So a
restarted studio, or another one, sees the same. Trainings that were started at a terminal are seen, too.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunit.errors import RunError, TunitError, reason_of
from tunit.files.atomic import owner_of, writable, write_text
from tunit.files.destination import STUDIO
from tunit.files.reading import Record, UnreadableError, exists, parse_json, read_json
from tunit.methods.model_file import ABOUT
from tunit.printing import printable
from tunit.studio.command_lines import environment
from tunit.studio.process_start import born
from tunit.training.checkpoint import MOST_STEPS, checkpoint_step, checkpoints
from tunit.training.run_folder import LOCK, RunFolder

JOB, LOG, STOP = "job.json", "train.log", "stop.json"
TAIL = 1 << 16  # bytes that are read from the end of a log
# The states of a training. STARTING: its process runs, but has not locked the run yet. TRAINING: the run is locked;
# at first its pictures are packed. A process that has released the lock, but has not ended yet, is TRAINING, too.
STARTING, TRAINING, STOPPING = "starting", "training", "stopping"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
RUNNING = (STARTING, TRAINING, STOPPING)
_WARNING = re.compile(r"\S.*:\d+: \w*Warning: ")  # as Python prints a warning: file, line, category, text
_UNSAVED = "it took all its steps, but the last of them are not saved: resume it"
_STOPPING = threading.Lock()  # of two requests to stop a training, only one sends the signal


@dataclass(frozen=True)
class State:
    """The state of a training."""

    state: str
    step: int  # of the last line of its log, or of its last checkpoint
    steps: int  # its length; 0 if that is not known yet
    reason: str = ""  # why it failed, in one sentence

    @property
    def runs(self) -> bool:
        """Whether a process is training."""
        return self.state in RUNNING


def start(command: list[str], run: Path) -> int:
    """Start a command that trains in the folder `run`. Returns the id of its process. Raises RunError."""
    folder = run / STUDIO
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        log = (folder / LOG).open("ab")
    with log:
        log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} {json.dumps(command)}\n".encode())
        log.flush()
        try:
            # A session of its own, so that signals of the studio's terminal do not reach it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=run,
                env=environment(),
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            raise RunError(f"the training cannot be started ({reason_of(error)}): try again") from None
    # Wait for the process in a thread; without this, an ended process would remain as a zombie and seem to run.
    threading.Thread(target=process.wait, daemon=True).start()
    job = {
        "process": process.pid,
        "born": born(process.pid),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    write_text(folder / JOB, json.dumps(job, indent=2) + "\n")
    return process.pid


def state_of(run: Path) -> State:
    """The state of a run's training. Raises nothing: a file that cannot be read counts as missing."""
    job = _job(run)
    process = _process(run, job)
    found = _state_with(run, job, process)
    # If the process has ended meanwhile, some of this may be from before its end and some from after it.
    has_ended = process is not None and _process(run, _job(run)) is None
    return _state_with(run, _job(run), None) if has_ended else found


def _state_with(run: Path, job: dict[str, Any], process: tuple[str, int] | None) -> State:
    """The state, if `process` (host, process ID) trains the run, or none does."""
    folder, locked = RunFolder(run), owner_of(run / LOCK) is not None
    # After this, because a process that has ended has written all its steps.
    step, steps = step_of(folder), steps_of(folder)
    if process is not None and _was_asked(run, *process):
        return State(STOPPING, step, steps)
    if locked or (process is not None and _has_begun(folder)):
        return State(TRAINING, step, steps)
    if process is not None:
        return State(STARTING, step, steps)
    if steps and saved_step(folder) >= steps:
        return State(FINISHED, step, steps)
    said = reason_of_end(run) if job else _UNSAVED
    if steps and step >= steps:  # the log has all steps, but what came after the last of them failed
        return State(FAILED, step, steps, said)
    if job and not exists(run / STUDIO / STOP) and not said.startswith("stopped by "):
        return State(FAILED, step, steps, said)
    return State(STOPPED, step, steps)


def _has_begun(folder: RunFolder) -> bool:
    """Whether the log of a run is newer than its last start: then a process without a lock is about to end, not
    about to start.
    """
    try:
        started = (folder.path / STUDIO / JOB).stat().st_mtime_ns
        return folder.metrics.stat().st_mtime_ns > started
    except OSError:
        return False


def stop(run: Path) -> None:
    """Ask the process that trains a run to save everything and end (SIGTERM), once. Raises RunError."""
    found = _process(run, _job(run))
    if found is None:
        raise RunError(f"{run.name} is not in training: there is nothing to stop")
    host, process = found
    if host != socket.gethostname():
        raise RunError(f"{run.name} is trained on the machine {printable(host)}: stop it there")
    if process == 1:
        # Process 1 is the first one of a container. Containers may have equal host names, so this may be the studio
        # itself.
        raise RunError(f"{run.name} is trained by the first process of a container: stop that container")
    path = run / STUDIO / STOP
    with _STOPPING:
        if _was_asked(run, host, process):
            return  # a second signal would end it at once, with nothing saved
        with writable(path):
            path.parent.mkdir(exist_ok=True)  # a training that was started at a terminal may not have it
        asked = {"host": host, "process": process, "born": born(process)}
        write_text(path, json.dumps(asked) + "\n")
        try:
            os.kill(process, signal.SIGTERM)
        except ProcessLookupError:
            return  # it has just ended
        except PermissionError:
            path.unlink(missing_ok=True)
            raise RunError(
                f"{run.name} is trained by another user of this machine: ask them to stop it"
            ) from None


def reason_of_end(run: Path) -> str:
    """Why the last training ended, in one sentence, from the last line of its log that is not of a warning."""
    lines = [line for line in _without_warnings(log_tail(run).splitlines()) if line.strip()]
    last = lines[-1].strip() if lines else ""
    if not last or last.startswith("--- "):
        return "the training ended without a message, so its process was probably killed: resume it"
    if _is_progress(last):
        return f"the training was killed, or its machine went down, after it had printed: {last}"
    return printable(last.removeprefix("tunit: "))


def _without_warnings(lines: list[str]) -> list[str]:
    """All lines except Python's warnings, such as those about leaked objects at the end of a killed process.

    After a warning follows, indented, the line of the program that gave it.
    """
    kept, after_warning = [], False
    for line in lines:
        is_warning = _WARNING.match(line) is not None
        if not is_warning and not (after_warning and line.startswith("  ")):
            kept.append(line)
        after_warning = is_warning
    return kept


def _is_progress(line: str) -> bool:
    return " left" in line and "step " in line


def log_tail(run: Path) -> str:
    """The end of the output of the last training that the studio started."""
    path = run / STUDIO / LOG
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL, 0))
            return file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def step_of(folder: RunFolder) -> int:
    """The step of the last line of metrics.jsonl, or of the newest checkpoint if it is later; 0 if there is none."""
    step = _newest_checkpoint(folder)
    path = folder.metrics
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL, 0))
        for line in reversed(file.read(TAIL).splitlines()):
            try:
                return max(step, Record(parse_json(line.decode("utf-8"))).whole("step", 0, MOST_STEPS))
            except ValueError:
                continue
    return step


def saved_step(folder: RunFolder) -> int:
    """The step of the newest checkpoint, or of the model if it is later; 0 if nothing is saved."""
    step = _newest_checkpoint(folder)
    with contextlib.suppress(UnreadableError):
        step = max(step, Record(read_json(folder.path / ABOUT)).whole("step", 0, MOST_STEPS))
    return step


def _newest_checkpoint(folder: RunFolder) -> int:
    saved = checkpoints(folder.checkpoints)
    return checkpoint_step(saved[-1]) if saved else 0


def steps_of(folder: RunFolder) -> int:
    """The length of a run in steps; 0 if it cannot be read."""
    try:
        return int(folder.read_config().schedule.steps)
    except (TunitError, OSError):  # a config of a later version must not hide all runs
        return 0


def _job(run: Path) -> dict[str, Any]:
    """The content of job.json; empty if there is none."""
    try:
        record = Record(read_json(run / STUDIO / JOB))
        record.whole("process", 1)
        record.text("host")
        return record.values
    except UnreadableError:
        return {}


def _process(run: Path, job: dict[str, Any]) -> tuple[str, int] | None:
    """(host, process) of the process that trains a run, whoever started it; None if there is none."""
    owner = _owner(run)
    if owner is None and _alive(job):
        return job["host"], job["process"]  # it has not locked the run yet
    return owner


def _was_asked(run: Path, host: str, process: int) -> bool:
    """Whether this very process was asked to stop, and not an earlier one that had the same id."""
    try:
        asked = Record(read_json(run / STUDIO / STOP)).values
    except UnreadableError:
        return False
    if (asked.get("host"), asked.get("process")) != (host, process):
        return False
    return host != socket.gethostname() or asked.get("born") == born(process)


def _owner(run: Path) -> tuple[str, int] | None:
    """(host, process) of the process that holds the lock of a run."""
    if owner_of(run / LOCK) is None:
        return None
    try:
        record = Record(read_json(run / LOCK))
        return record.text("host"), record.whole("process", 1)
    except UnreadableError:
        return None


def _alive(job: dict[str, Any]) -> bool:
    """Whether the process of a job still runs on this machine (and its id was not given to another process)."""
    if not job or job["host"] != socket.gethostname():
        return False
    now = born(job["process"])
    return now is not None and now == job.get("born")
