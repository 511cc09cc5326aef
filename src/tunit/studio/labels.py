"""The labels that people give to the pictures of a run: a journal of their actions, and a table to train with.

  RUN/studio/journal.jsonl    every action, including undo and redo; the labels follow from it
  RUN/studio/labels.csv       the current labels: picture, label, by; written again after every action

The table is for `tunit train labels.csv --labels csv`: pictures without a label have an empty cell, pictures that
were left out have no row. `by` tells who gave the label: a person, or the model (see `EXAMPLES`).
"""

import csv
import hashlib
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunit.destination import STUDIO
from tunit.errors import ConfigError, RunError
from tunit.files import writable, write_text
from tunit.reading import Record, UnreadableError
from tunit.studio.actions import Action, Opinion, checked, opinion_after, standing
from tunit.studio.journal import Entry, Journal, StaleError

JOURNAL, TABLE = "journal.jsonl", "labels.csv"
PERSON, MODEL = "person", "model"
# If no person has assigned any picture to a domain, this domain's label is given to the pictures that the model is
# surest of, at most this many. So domains that were merged, split, named or left unchanged also take part in the
# training.
EXAMPLES = 5


@dataclass(frozen=True)
class ModelOutput:
    """A model's output for the N pictures of its run."""

    names: Sequence[str]  # (N,)
    found: Sequence[int]  # (N,) the likeliest domain of each
    sure: Sequence[float]  # (N,) its probability
    domains: int  # how many the model knows
    step: int  # of the training
    others: Sequence[str] = ()  # pictures without output of the model; they train without a label


@dataclass(frozen=True)
class Standing:
    """The state of the labels after some actions."""

    # How many actions there are so far, including undo and redo. The author of the next one must have seen all of
    # them.
    number: int
    opinion: Opinion
    sure: Sequence[float]
    step: int  # the training step of the model that found these domains
    done: list[Action]  # the actions in effect
    undone: list[Action]


class RunLabels:
    """The labels of one run. Threads may share this object; other processes may have their own for the same run.

    looked: the output of the current model. If there is a journal, its own record of the output is used instead.
    paths: returns the file of each picture that is a file of its own; called when the table is written.
    """

    def __init__(
        self, run: Path, looked: ModelOutput, paths: Callable[[], Mapping[str, Path]] = dict
    ) -> None:
        self.folder = run / STUDIO
        self.table = self.folder / TABLE
        self._looked, self.paths = looked, paths
        self._journal = Journal(self.folder / JOURNAL)
        self._lock = threading.Lock()
        # The last state, and how many entries of the journal it takes into account.
        self._last: tuple[int, Standing] | None = None

    def standing(self) -> Standing:
        """The current state. Raises RunError if the journal is damaged, or belongs to other pictures."""
        with self._lock:
            return self._standing(self._journal.refresh())

    def act(self, action: Action, seen: int) -> Standing:
        """Carry out an action whose author has seen `seen` actions, and write it to the disk and into the table.

        Raises StaleError if there are more actions, ConfigError if it is not possible, UnwritableError.
        """
        with self._lock:
            now = self._standing(self._journal.refresh())
            if seen != now.number:
                raise StaleError(seen, now.number)
            action = checked(action, now.opinion, len(now.done), len(now.undone))
            self._begin()
            at = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
            self._append(action | at, seen)
            now = self._standing(self._journal.refresh())
            self._write(now)
            return now

    def write_table(self) -> Standing:
        """Write the table again, before a training: a process may have died before it wrote the table."""
        with self._lock:
            now = self._standing(self._journal.refresh())
            if now.number:
                self._write(now)
            return now

    def _begin(self) -> None:
        """Write the first entry of a journal: the model's output, to which all actions refer."""
        if self._journal.entries:
            return
        looked = self._looked
        entry = {
            "do": "begin",
            "pictures": _digest(looked.names),
            "step": looked.step,
            "domains": looked.domains,
            "found": [int(k) for k in looked.found],
            "sure": [round(float(p), 4) for p in looked.sure],
        }
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._journal.append(entry, 0)
        except StaleError:  # another process has begun it meanwhile
            self._standing(self._journal.refresh())

    def _append(self, entry: Entry, seen: int) -> None:
        try:
            self._journal.append(entry, seen + 1)  # the first entry is not an action
        except StaleError as error:
            raise StaleError(seen, error.now - 1) from None

    def _standing(self, entries: list[Entry]) -> Standing:
        number = max(len(entries) - 1, 0)
        if self._last and self._last[0] == len(entries):
            return self._last[1]
        begin = _begin_of(entries, self._looked, self._journal.path)
        actions = entries[1:]
        try:
            done, undone = standing(actions)
            opinion = opinion_after(begin.found, begin.domains, actions)
        except (ConfigError, KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise RunError(
                f"{self._journal.path} holds an entry that this version of tunit does not know: use the version that "
                "wrote it, or move it away to begin again"
            ) from None
        self._last = len(entries), Standing(number, opinion, begin.sure, begin.step, done, undone)
        return self._last[1]

    def _write(self, now: Standing) -> None:
        paths = self.paths()
        rows = [("picture", "label", "by")]
        for name, label, by in rows_of(now, self._looked.names):
            rows.append((str(paths.get(name, name)), label, by))
        rows += [(str(paths.get(name, name)), "", "") for name in self._looked.others]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        write_text(self.table, text.getvalue())


def rows_of(now: Standing, names: Sequence[str], examples: int = EXAMPLES) -> list[tuple[str, str, str]]:
    """(picture, label, by) of all pictures except those left out, in order.

    label and by are "" if a picture has no label. examples: as `EXAMPLES`.
    """
    opinion, by_model = now.opinion, set[int]()
    for members in opinion.members().values():
        if not any(i in opinion.given for i in members):
            by_model.update(sorted(members, key=lambda i: -now.sure[i])[:examples])
    rows = []
    for i, name in enumerate(names):
        if i in opinion.left_out:
            continue
        by = PERSON if i in opinion.given else MODEL if i in by_model else ""
        rows.append((name, opinion.label(opinion.domain_of(i)) if by else "", by))
    return rows


def split_in_two(styles: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """Which rows of style codes (n, width) form the smaller one of two groups (k-means).

    Raises ConfigError if there are no two different codes.
    """
    from tunit.clustering.partition import k_means

    if len(styles) < 2 or not np.ptp(styles, axis=0).any():
        raise ConfigError("a domain of one picture, or of equal ones, cannot be split: choose another")
    groups = k_means(styles, 2, seed).labels_
    return np.flatnonzero(groups == int(2 * groups.sum() <= len(groups))).astype(np.int64)


def _begin_of(entries: list[Entry], looked: ModelOutput, path: Path) -> ModelOutput:
    if not entries:
        return looked
    try:
        record = Record(entries[0])
        domains = record.whole("domains", 1, 1 << 20)
        found = record.wholes("found", 0, domains - 1)
        sure = record.numbers("sure")
        digest = record.text("pictures")
        begin = ModelOutput(looked.names, found, sure, domains, record.whole("step"))
    except UnreadableError as error:
        raise RunError(
            f"{path} does not begin like a journal ({error}): move it away to begin again"
        ) from None
    if digest != _digest(looked.names) or not len(begin.found) == len(begin.sure) == len(looked.names):
        raise RunError(f"{path} belongs to other pictures than those of the run: move it away to begin again")
    return begin


def _digest(names: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
