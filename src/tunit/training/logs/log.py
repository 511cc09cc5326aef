"""The logs of a training: metrics.jsonl, TensorBoard events, progress on the terminal."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tunit.errors import RunError
from tunit.files.atomic import replacing, writable
from tunit.files.reading import LONGEST_LINE, Record, UnreadableError, exists, parse_json
from tunit.printing import in_sentence, remark
from tunit.training.logs.events import Events
from tunit.training.logs.tracking import Tracker
from tunit.training.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Short names of the losses for the progress bar, which has little room.
SHORT = {
    "guide/mutual_information": "MI",
    "guide/style": "style",
    "discriminator/real": "D real",
    "discriminator/fake": "D fake",
    "generator/adversarial": "G adv",
    "generator/reconstruction": "rec",
}
PLAIN_SECONDS = 15.0  # between progress lines if there is no terminal


class MetricsLog:
    """metrics.jsonl, TensorBoard events, and a tracker. Raises UnwritableError if writing a file fails.

    Lines and events are appended, so a kill may cut off the last one; the training's other files are written
    atomically. A resumed run removes an incomplete last line, and the lines of steps after its checkpoint, because it
    repeats these steps.
    """

    def __init__(self, folder: Path, start: int, tracker: Tracker | None = None) -> None:
        self.path, self._tracker = RunFolder(folder).metrics, tracker
        self._tensorboard = folder / "tensorboard"
        self._events: Events | None = None
        self.go_back(start)

    def go_back(self, start: int) -> None:
        """Continue after step `start`: lines and events of later steps go, because these steps are repeated.

        The tracker gets the repeated steps, too.
        """
        if self._events:
            self._events.close()
        if exists(self.path):
            _keep_to(self.path, start)
        with writable(self._tensorboard):
            try:
                # There may be events of later steps even if training goes on from step 0: it may have gone back to
                # the start, or a process may have been killed before its first checkpoint.
                again = start > 0 or any(self._tensorboard.glob("events.*"))
                self._events = Events(self._tensorboard, start + 1 if again else None)
            except ImportError:  # without tensorboardX, metrics.jsonl alone still contains everything
                self._events = None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line and the same values as events."""
        self.note({"step": step, **values})
        if self._events:
            with writable(self._tensorboard):
                self._events.write(step, values)
        if self._tracker:
            self._tracker.log(step, values)

    def note(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl alone. row: contains its step."""
        with writable(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def flush(self) -> None:
        """Write all lines and events to the disk."""
        with writable(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())
        if self._events:
            with writable(self._tensorboard):
                self._events.flush()

    def close(self) -> None:
        """Close the events; call `flush` first to learn of write errors."""
        if self._events:
            self._events.close()
        if self._tracker:
            self._tracker.finish()


def _keep_to(path: Path, step: int) -> None:
    """Keep only complete lines up to a step. Raises UnwritableError, and RunError if the path is not a file."""
    with writable(path):
        if not path.is_file():
            raise RunError(f"{path} is not a file: remove it, and resume again")
        with replacing(path) as partial, path.open("rb") as lines, partial.open("wb") as kept:
            while line := lines.readline(LONGEST_LINE):
                found = _step_of(line.decode("utf-8", "replace"))
                if found is not None and found <= step:
                    kept.write(line.rstrip(b"\r\n") + b"\n")


def _step_of(line: str) -> int | None:
    """The step of a line; None for a line that a crash cut off."""
    try:
        return Record(parse_json(line)).whole("step")
    except UnreadableError:
        return None


class ProgressDisplay:
    """A live progress bar on a terminal; without a terminal or without rich, a line every 15 s."""

    def __init__(self, total: int, start: int, *, quiet: bool = False) -> None:
        self._console: Console | None
        self._bar: Progress | None
        self._console, self._bar = _terminal(quiet)
        self._live = self._bar is not None and not self._bar.disable
        self._quiet, self._total = quiet, total
        self.alarms = ""  # shown with the losses
        self._last = time.monotonic()
        self._phases: set[str] = set()  # those shown so far
        self._phase_began, self._first_step = self._last, start
        if self._bar:
            self._task = self._bar.add_task("", total=total, completed=start, losses="")

    def __enter__(self) -> "ProgressDisplay":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def wants_losses(self) -> bool:
        """Whether new losses would be displayed now. If not, they should not be read: reading waits for the GPU."""
        return not self._quiet and time.monotonic() - self._last >= (0.5 if self._live else PLAIN_SECONDS)

    def show(self, step: int, phase: str, losses: dict[str, float] | None = None) -> None:
        """Move the bar to `step`, and show the speed and the losses that have a short name."""
        # Steps of a new phase may take several times as long as those before. With a few labels, phases may alternate
        # step by step; only the first step of each counts as new.
        if phase not in self._phases:
            self._phases.add(phase)
            self._phase_began, self._first_step = time.monotonic(), step
        if losses is None:
            if self._bar:
                self._bar.update(self._task, completed=step, description=phase)
            return
        text = "  ".join(f"{short} {losses[name]:.3g}" for name, short in SHORT.items() if name in losses)
        if "speed/pictures_per_second" in losses:
            text += f"  {losses['speed/pictures_per_second']:.3g} pictures/s"
        if "speed/mfu" in losses:
            text += f"  MFU {losses['speed/mfu']:.0%}"
        if self.alarms:
            text += f"  ALARM: {self.alarms}"
        self._last = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=step, description=phase, losses=text)
        if not self._live and not self._quiet:
            line = f"{phase}: step {step}/{self._total}  {text}"
            if done := step - self._first_step:
                left = (self._last - self._phase_began) / done * (self._total - step)
                line += f"  {_clock(left)} left at this speed"
            remark(line, name="")

    def say(self, text: str, *, even_if_quiet: bool = False) -> None:
        """Print a line above the bar."""
        if self._quiet and not even_if_quiet:
            return
        if self._console is None:
            remark(text, name="")
        else:
            self._console.print(in_sentence(text), highlight=False, markup=False, emoji=False)


def _terminal(quiet: bool) -> "tuple[Console, Progress] | tuple[None, None]":
    """The terminal and a progress bar, which stays hidden if `quiet` or without a terminal; (None, None) without
    rich.
    """
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None, None
    console = Console(stderr=True)
    columns: list[Any] = [
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[losses]}", style="cyan"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    return console, Progress(*columns, console=console, disable=quiet or not console.is_terminal)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
