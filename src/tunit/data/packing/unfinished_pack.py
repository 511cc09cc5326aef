"""A pack that is being made: the pixels at their positions in one file, and a journal of each picture's outcome.

`pictures.journal` starts with the source and the settings, then has a line for each picture, in the order of reading.
A killed job leaves both files. The next job with the same source and settings compares the pixels with the journal
and continues after the last line; the result is the same bytes.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.found import PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import INDEX, PIXELS
from tunit.data.packing import packed as packs
from tunit.data.packing.packed import HEADER_BYTES, Index
from tunit.files.work_journal import WorkJournal

JOURNAL, UNFINISHED = "pictures.journal", f"{PIXELS}.part"

# The hash of a picture's pixels, or the reason why it was left out.
Outcome: TypeAlias = str | LeftOut


def outcome_line(outcome: Outcome) -> Any:
    """An outcome as JSON. It contains no name: the picture is known by the position of the line."""
    return outcome if isinstance(outcome, str) else [outcome.reason, outcome.detail]


def outcome_of(line: Any, name: str) -> Outcome | None:
    """The outcome that `outcome_line` wrote for the picture `name`; None if the line is something else."""
    if isinstance(line, str):
        return line
    if isinstance(line, list) and len(line) == 2 and all(isinstance(part, str) for part in line):
        return LeftOut(name, *line)
    return None


def by_slot(order: Sequence[int], outcomes: Sequence[Outcome]) -> tuple[list[str | None], list[LeftOut]]:
    """The hash of every slot (None if it is empty), and the pictures that were left out.

    order: the slots of the pictures (see pack.py), in the order of their outcomes.
    """
    hashes: list[str | None] = [None] * len(order)
    left_out = []
    for slot, outcome in zip(order, outcomes, strict=True):
        if isinstance(outcome, LeftOut):
            left_out.append(outcome)
        else:
            hashes[slot] = outcome
    return hashes, left_out


class UnfinishedPack:
    """A pack that is being made, in a folder locked by this process; `outcomes` has the outcomes so far.

    order: the slots of the pictures, in the order of reading. about: what the pack depends on. resumable: continue
    the work of a killed job, and keep the files if this job ends early. It must be False if the folder is not locked,
    because another process might write there, too.
    """

    def __init__(
        self,
        folder: Path,
        order: Sequence[int],
        pictures: Sequence[PictureSource],
        size: int,
        about: dict[str, Any],
        resumable: bool,
    ) -> None:
        self._folder, self._order, self._pictures, self._size = folder, order, pictures, size
        self._resumable = resumable
        self._journal = WorkJournal(folder / JOURNAL, {**about, "pictures": len(order)})
        self._again = False  # whether an earlier job may have started to move pixels
        self.outcomes: list[Outcome] = []
        self.pixels = folder / UNFINISHED
        if not resumable:
            self.pixels = packs.new_pixels(folder, len(order), size)
        elif not self._take_up():
            self._begin()

    def __enter__(self) -> "UnfinishedPack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        if not self._resumable or not any(isinstance(outcome, str) for outcome in self.outcomes):
            with contextlib.suppress(OSError):
                self.discard()

    def add(self, outcome: Outcome, square: NDArray[np.uint8] | None) -> None:
        """Add the outcome of the next picture, and its pixels (S, S, 3) unless it is left out. Raises OSError."""
        if square is not None:
            packs.write_picture_bytes(self.pixels, self._order[len(self.outcomes)], square)
        self.outcomes.append(outcome)
        if self._resumable:
            self._journal.add(outcome_line(outcome))

    def install(self, keep: list[int], index: Index) -> None:
        """Make the pictures of the slots `keep` (ascending) the content of the folder.

        Raises OSError, and LostPictureError if the disk has lost something that an earlier job wrote.
        """
        expected = index.hashes if self._again else None
        packs.keep_pictures(self.pixels, keep, self._size, expected)
        packs.install(self._folder, self.pixels, index)
        self.discard()

    def discard(self) -> None:
        """Remove all files of this unfinished pack."""
        self.pixels.unlink(missing_ok=True)
        if self._resumable:
            self._journal.remove()

    def _begin(self) -> None:
        self.discard()
        self.outcomes = []
        packs.new_pixels(self._folder, len(self._order), self._size, self.pixels)
        self._journal.begin()

    def _take_up(self) -> bool:
        """Continue the work of a killed job. Returns False if there is none."""
        outcomes = []
        for slot, line in zip(self._order, self._journal.steps(), strict=False):
            outcome = outcome_of(line, self._pictures[slot].name)
            if outcome is None:
                break
            outcomes.append(outcome)
        ready = self._folder / PIXELS
        try:
            if outcomes and not self.pixels.exists() and not (self._folder / INDEX).exists():
                # An earlier job was killed when it had moved the pixels, but not yet written the index.
                ready.replace(self.pixels)
            self._again = len(outcomes) == len(self._order)
            done = len(outcomes) if self._again else self._written(outcomes)
            if not done:
                return False
            self._journal.begin(done)
        except OSError:
            return False
        self.outcomes = outcomes[:done]
        return self.pixels.is_file()

    def _written(self, outcomes: list[Outcome]) -> int:
        """The number of outcomes before the first one whose pixels are missing in the file, as after a power cut.

        Raises OSError if the file does not exist or has another size.
        """
        expected = HEADER_BYTES + len(self._order) * packs.bytes_per_picture(self._size)
        if self.pixels.stat().st_size != expected:
            raise FileNotFoundError(self.pixels)
        with self.pixels.open("rb") as file:
            for done, (slot, outcome) in enumerate(zip(self._order, outcomes, strict=False)):
                if (
                    isinstance(outcome, str)
                    and packs.read_picture_bytes(file, slot, self._size)[1] != outcome
                ):
                    return done
        return len(outcomes)
