"""A pack that is being made: the squares at their places in one file, and a journal of what became of each picture.

`pictures.journal` has a head, which says of what source and with what settings, and then a line for each picture, in
the order in which pictures are read. A job that was killed leaves both files. The next one with the same source and
settings compares the squares with the journal and goes on behind the last line; its result is the same bytes.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.found import PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import INDEX, PIXELS
from tunit.data.packing import packed as packs
from tunit.data.packing.packed import HEADER_BYTES, Index

JOURNAL = "pictures.journal"
_LONGEST_HEAD = 1 << 20  # bytes

# The digest of a picture's square, or why it has none.
Outcome: TypeAlias = str | LeftOut


def outcome_line(outcome: Outcome) -> Any:
    """An outcome as JSON; the name of a picture that is left out is known by its place."""
    return outcome if isinstance(outcome, str) else [outcome.reason, outcome.detail]


def outcome_of(line: Any, name: str) -> Outcome | None:
    """The outcome that `outcome_line` wrote of the picture `name`; None where it wrote something else."""
    if isinstance(line, str):
        return line
    if isinstance(line, list) and len(line) == 2 and all(isinstance(part, str) for part in line):
        return LeftOut(name, *line)
    return None


class UnfinishedPack:
    """A pack in the making, in a cache that this process has locked; `outcomes` is what is known so far.

    order: the slots of the pictures, in the order in which they are read; about: what the pack depends on.
    resumable: go on with what a killed job has left, and leave what is there if this one ends early. False where
        the cache could not be locked, because another process may write there, too.
    """

    def __init__(
        self,
        cache: Path,
        order: Sequence[int],
        pictures: Sequence[PictureSource],
        size: int,
        about: dict[str, Any],
        resumable: bool,
    ) -> None:
        self._cache, self._order, self._pictures, self._size = cache, order, pictures, size
        self._resumable, self._journal_path = resumable, cache / JOURNAL
        self._head = json.dumps({**about, "pictures": len(order)}).encode() + b"\n"
        self._again = False  # whether an earlier job may have begun to move squares
        self.outcomes: list[Outcome] = []
        self._journal: IO[bytes] | None = None
        self.pixels = cache / f"{PIXELS}.part"
        if not resumable:
            self.pixels = packs.new_pixels(cache, len(order), size)
        elif not self._take_up():
            self._begin()

    def __enter__(self) -> "UnfinishedPack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            self._journal.close()
        if not self._resumable or not any(isinstance(outcome, str) for outcome in self.outcomes):
            with contextlib.suppress(OSError):
                self.discard()

    def add(self, outcome: Outcome, square: NDArray[np.uint8] | None) -> None:
        """What became of the next picture, and its square (S, S, 3) unless it is left out. Raises OSError."""
        if square is not None:
            packs.write_record(self.pixels, self._order[len(self.outcomes)], square)
        self.outcomes.append(outcome)
        if self._journal is not None:
            self._journal.write(json.dumps(outcome_line(outcome)).encode() + b"\n")
            self._journal.flush()

    def by_slot(self) -> tuple[list[str | None], list[LeftOut]]:
        """The digest of every slot, None where it is empty, and what was left out."""
        digests: list[str | None] = [None] * len(self._order)
        left_out = []
        for slot, outcome in zip(self._order, self.outcomes, strict=True):
            if isinstance(outcome, LeftOut):
                left_out.append(outcome)
            else:
                digests[slot] = outcome
        return digests, left_out

    def install(self, keep: list[int], index: Index) -> None:
        """Make the squares of the slots `keep` (ascending) the content of the cache.

        Raises OSError, and LostRecordError where the disk has lost what an earlier job wrote.
        """
        expected = index.hashes if self._again else None
        packs.keep_records(self.pixels, keep, self._size, expected)
        packs.install(self._cache, self.pixels, index)
        self.discard()

    def discard(self) -> None:
        """Remove what was written."""
        if self._journal is not None:
            self._journal.close()
        self.pixels.unlink(missing_ok=True)
        if self._resumable:
            self._journal_path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self.discard()
        self.outcomes = []
        packs.new_pixels(self._cache, len(self._order), self._size, self.pixels)
        self._journal = self._journal_path.open("wb")
        self._journal.write(self._head)
        self._journal.flush()

    def _take_up(self) -> bool:
        """Go on where a killed job has stopped; False where there is nothing to go on with."""
        ready = self._cache / PIXELS
        try:
            with self._journal_path.open("rb") as journal:
                if journal.readline(_LONGEST_HEAD) != self._head:
                    return False
                outcomes, ends = self._read(journal)
            if not self.pixels.exists() and not (self._cache / INDEX).exists():
                ready.replace(self.pixels)  # it was killed between the last two steps
            self._again = len(outcomes) == len(self._order)
            done = len(outcomes) if self._again else self._written(outcomes)
            self._journal = self._journal_path.open("r+b")
            self._journal.truncate(ends[done])
            self._journal.seek(0, os.SEEK_END)
        except OSError:
            return False
        self.outcomes = outcomes[:done]
        return self.pixels.is_file()

    def _read(self, journal: IO[bytes]) -> tuple[list[Outcome], list[int]]:
        """The outcomes up to the first line that is not whole, and the places between the lines."""
        outcomes: list[Outcome] = []
        ends = [journal.tell()]
        for slot in self._order:
            line = journal.readline()
            try:
                outcome = outcome_of(json.loads(line), self._pictures[slot].name)
            except ValueError:
                break
            if outcome is None or not line.endswith(b"\n"):
                break
            outcomes.append(outcome)
            ends.append(ends[-1] + len(line))
        return outcomes, ends

    def _written(self, outcomes: list[Outcome]) -> int:
        """How many outcomes there are before the first whose square is not in the file, which a power cut may lose.

        Raises OSError where the file is not there, or is of another size.
        """
        if self.pixels.stat().st_size != HEADER_BYTES + len(self._order) * packs.record_bytes(self._size):
            raise FileNotFoundError(self.pixels)
        with self.pixels.open("rb") as file:
            for done, (slot, outcome) in enumerate(zip(self._order, outcomes, strict=False)):
                if isinstance(outcome, str) and packs.read_record(file, slot, self._size)[1] != outcome:
                    return done
        return len(outcomes)


__all__ = ["JOURNAL", "Outcome", "UnfinishedPack", "outcome_line", "outcome_of"]
