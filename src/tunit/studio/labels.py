"""The labels that people give to the pictures of a run: a journal of their actions, and a table to train with.

  RUN/studio/journal.jsonl    every action, including undo and redo; the labels follow from it
  RUN/studio/labels.csv       the current labels: picture, label, by; written again a moment after the last action,
                              and when the studio ends

The table is for `tunit train labels.csv --labels csv`: pictures without a label have an empty cell, pictures that
were left out have no row. `by` tells who gave the label: a person, or the model (see `EXAMPLES`).
"""

import csv
import hashlib
import io
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunit.errors import ConfigError, RunError, TunitError
from tunit.files.atomic import writable, write_text
from tunit.files.destination import STUDIO
from tunit.files.reading import Record, UnreadableError
from tunit.studio.action_log import ActionLog, Entry, OtherModelError, StaleError
from tunit.studio.actions import (
    Action,
    DomainAssignment,
    actions_in_effect,
    assignment_after,
    checked,
    first_assignment,
    with_composed_name,
)
from tunit.studio.first_names import noted_names

JOURNAL, TABLE = "journal.jsonl", "labels.csv"
IDLE = 2.0  # seconds without an action after which the table is written: that of a million pictures takes seconds
PERSON, MODEL = "person", "model"
# If no person has assigned any picture to a domain, this domain's label is given to the pictures that the model is
# surest of, at most this many. So domains that were merged, split, named or left unchanged also take part in the
# training.
EXAMPLES = 5
LOG = logging.getLogger("tunit.studio")
_PENDING: set["RunLabels"] = set()  # those whose tables lack the last actions


@dataclass(frozen=True)
class ModelOutput:
    """A model's output for N pictures of its run, in the order of the pack."""

    names: Sequence[str]  # (N,)
    found: Sequence[int]  # (N,) the likeliest domain of each
    sure: Sequence[float]  # (N,) its probability
    domains: int  # how many the model knows
    step: int  # of the training
    others: Sequence[str] = ()  # pictures without output of the model; they train without a label
    checksum: str = ""  # of the model: another one may have the same step; "" if it is not known
    first_names: Sequence[str] = ()  # of the first domains, before any action; those after them have none


@dataclass(frozen=True)
class LabelState:
    """The state of the labels after some actions."""

    # How many actions there are so far, including undo and redo. The author of the next one must have seen all of
    # them.
    number: int
    assignment: DomainAssignment
    sure: Sequence[float]
    step: int  # the training step of the model that found these domains
    checksum: str  # of that model, as in `ModelOutput`
    done: list[Action]  # the actions in effect
    undone: list[Action]

    @property
    def model(self) -> str:
        """The model that found these domains, in a word to compare."""
        return f"{self.step} {self.checksum}"


class RunLabels:
    """The labels of one run. Threads may share this object; other processes may have their own for the same run.

    output: the output of the current model. If there is a journal, its own record of the output is used instead.
    search: finds the file of each picture that is a file of its own; called when the table is first written.
    """

    def __init__(
        self, run: Path, output: ModelOutput, search: Callable[[], Mapping[str, Path]] = dict
    ) -> None:
        self.folder = run / STUDIO
        self.table = self.folder / TABLE
        self._output, self._search = output, search
        self._paths: Mapping[str, Path] | None = None  # None until they were searched
        self._log = ActionLog(self.folder / JOURNAL)
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # held while the table is written; actions go on meanwhile
        self._later: threading.Timer | None = None  # writes the table
        # The last state, and how many entries of the journal it takes into account.
        self._last: tuple[int, LabelState] | None = None

    @property
    def pictures(self) -> int:
        """How many pictures the run has, also those that were left out."""
        return len(self._output.names) + len(self._output.others)

    def state(self) -> LabelState:
        """The current state. Raises RunError if the journal is damaged, or belongs to other pictures."""
        with self._lock:
            is_first = self._last is None
            now = self._state_of(self._log.refresh())
            if is_first and now.number and not self._is_written():  # a killed process left the table behind
                self._write_later()
            return now

    def act(self, action: Action, seen: int, model: str | None = None) -> LabelState:
        """Carry out an action whose author has seen `seen` actions, and write it to the disk; into the table, later.

        model: the `LabelState.model` whose domains the author has seen; None for whichever it is now.
        Returns the new state. Raises StaleError if there are more actions or another model, ConfigError if it is not
        possible, UnwritableError.
        """
        with self._lock:
            now = self._state_of(self._log.refresh())
            if seen != now.number:
                raise StaleError(seen, now.number)
            # Until there is a journal, the number is 0 for every model.
            if model not in (None, now.model):
                raise OtherModelError(now.number)
            action = checked(with_composed_name(action), now.assignment, len(now.done), len(now.undone))
            self._begin()
            at = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
            self._append(action | at, seen)
            self._write_later()
            return self._state_of(self._log.refresh())

    def write_table(self, copy: Path | None = None) -> LabelState:
        """Write the table with all actions up to now, as before a training. copy: also write the same there.

        Returns the state that was written.
        """
        with self._writing:
            with self._lock:
                later = self._later
                if later:
                    later.cancel()
                now = self._state_of(self._log.refresh())
            if now.number:
                self._write(now, copy)
            with self._lock:
                if self._later is later:  # no further action meanwhile
                    _PENDING.discard(self)
            return now

    def _write_later(self) -> None:
        """Write the table as soon as there was no action for a while, or by `write_pending_tables`."""
        if self._later:
            self._later.cancel()
        _PENDING.add(self)
        self._later = threading.Timer(IDLE, self._write_now)
        self._later.start()

    def _write_now(self) -> None:
        try:
            self.write_table()
        except TunitError as error:  # a training writes it again, and then the error is shown
            LOG.warning("%s", error)

    def _is_written(self) -> bool:
        """Whether the table is newer than the journal."""
        try:
            return self.table.stat().st_mtime_ns >= self._log.path.stat().st_mtime_ns
        except OSError:
            return False

    def paths(self, *, anew: bool = False) -> Mapping[str, Path]:
        """The file of each picture that is a file of its own. anew: search again."""
        if self._paths is None or anew:
            self._paths = self._search()
        return self._paths

    def _begin(self) -> None:
        """Write the first entry of a journal: the model's output, to which all actions refer."""
        if self._log.entries:
            return
        output = self._output
        entry = {
            "do": "begin",
            "pictures": _digest(output.names),
            "step": output.step,
            "model": output.checksum,
            "domains": output.domains,
            "names": list(first_assignment([], output.domains, output.first_names).names.values()),
            "found": [int(k) for k in output.found],
            "sure": [round(float(p), 4) for p in output.sure],
        }
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._log.append(entry, 0)
        except StaleError:  # another process has begun it meanwhile
            self._state_of(self._log.refresh())

    def _append(self, entry: Entry, seen: int) -> None:
        try:
            self._log.append(entry, seen + 1)  # the first entry is not an action
        except StaleError as error:
            raise StaleError(seen, error.now - 1) from None

    def _state_of(self, entries: list[Entry]) -> LabelState:
        number = max(len(entries) - 1, 0)
        if self._last and self._last[0] == len(entries):
            return self._last[1]
        begin = _begin_of(entries, self._output, self._log.path)
        actions = entries[1:]
        try:
            done, undone = actions_in_effect(actions)
            assignment = assignment_after(begin.found, begin.domains, actions, begin.first_names)
        except (ConfigError, KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise RunError(
                f"{self._log.path} holds an entry that this version of tunit does not know: use the version that "
                "wrote it, or move it away to begin again"
            ) from None
        self._last = (
            len(entries),
            LabelState(number, assignment, begin.sure, begin.step, begin.checksum, done, undone),
        )
        return self._last[1]

    def _write(self, now: LabelState, copy: Path | None = None) -> None:
        paths = self.paths()
        rows = [("picture", "label", "by")]
        for name, label, by in rows_of(now, self._output.names):
            rows.append((str(paths.get(name, name)), label, by))
        rows += [(str(paths.get(name, name)), "", "") for name in self._output.others]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        for table in (self.table, *([copy] if copy else ())):
            write_text(table, text.getvalue())


def write_pending_tables() -> None:
    """Write the tables that lack the last actions, as when the studio ends: a signal would kill the timers."""
    for labels in _PENDING.copy():
        labels._write_now()


def rows_of(now: LabelState, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(picture, label, by) of all pictures except those left out, in order.

    label and by are "" if a picture has no label.
    """
    assignment, by_model = now.assignment, set[int]()
    for members in assignment.members().values():
        if not any(i in assignment.given for i in members):
            by_model.update(sorted(members, key=lambda i: -now.sure[i])[:EXAMPLES])
    rows = []
    for i, name in enumerate(names):
        if i in assignment.left_out:
            continue
        by = PERSON if i in assignment.given else MODEL if i in by_model else ""
        rows.append((name, assignment.label(assignment.domain_of(i)) if by else "", by))
    return rows


def _begin_of(entries: list[Entry], output: ModelOutput, path: Path) -> ModelOutput:
    if not entries:
        return output
    try:
        record = Record(entries[0])
        domains = record.whole("domains", 1, 1 << 20)
        found = record.wholes("found", 0, domains - 1)
        sure = record.numbers("sure")
        digest = record.text("pictures")
        # Journals of development versions before 0.1.0 have no checksum.
        checksum = record.text("model") if "model" in record.values else ""
        names, step = noted_names(record, domains), record.whole("step")
        begin = ModelOutput(output.names, found, sure, domains, step, checksum=checksum, first_names=names)
    except UnreadableError as error:
        raise RunError(
            f"{path} does not begin like a journal ({error}): move it away to begin again"
        ) from None
    if digest != _digest(output.names) or not len(begin.found) == len(begin.sure) == len(output.names):
        raise RunError(f"{path} belongs to other pictures than those of the run: move it away to begin again")
    return begin


def _digest(names: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
