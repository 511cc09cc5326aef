"""Shards that are being written.

Pictures are written in the order in which they are read; of identical pictures only the first is written. Each shard
comes with a part file, which records the outcome of every picture up to the end of that shard. A killed job leaves
both. The next job with the same source and settings continues after the last complete shard and produces the same
bytes. The part files are removed once the index is written.

What else is there, such as a set that is damaged or of another version of tunit, is removed as soon as a picture of
the new set can be used: a source without such pictures replaces nothing.

Other programs give their shards the same names. So wherever there are shards of tunit, there is a sign of it, too: a
part file or the index.
"""

import json
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.found import PictureSource
from tunit.data.finding.naming import INDEX, MARKER
from tunit.data.finding.places import Place
from tunit.data.finding.shard_format import END, member, part_name, shard_name
from tunit.data.packing.unfinished_pack import Outcome, outcome_line, outcome_of
from tunit.errors import DataError
from tunit.files.partials import clear_abandoned, partial_in
from tunit.files.reading import parse_json

_OURS = re.compile(r"shard-\d{6,}\.(tar|json)|pictures\.npy")
_BEGIN_OF_INDEX = b'{"format": "tunit pictures"'  # also if the rest is damaged


def refuse_foreign(place: Place) -> None:
    """Raises DataError if there are files with the names of ours, and no sign that tunit wrote them."""
    there = place.names()
    names = sorted(name for name in there if _OURS.fullmatch(name))
    if not names or MARKER in there:
        return
    if INDEX in there and (place.read(INDEX) or b"").startswith(_BEGIN_OF_INDEX):
        return
    if any(_is_part(place.read(name)) for name in names if name.endswith(".json")):
        return
    raise DataError(f"{place.where} holds {names[0]}, which tunit did not write: give another --out")


def _is_part(data: bytes | None) -> bool:
    """Whether this is the content of a part file, of any set."""
    try:
        part = parse_json((data or b"").decode("utf-8"))
    except ValueError:
        return False
    return isinstance(part, dict) and {"about", "begin", "outcomes"} <= part.keys()


class UnfinishedShards:
    """Shards that are being written; `outcomes` has the outcome of each picture so far, in the order of reading.

    order: the slots of the pictures (see pack.py) in that order; about: what the set depends on; keep_all: keep
    identical pictures.
    """

    def __init__(
        self,
        place: Place,
        order: Sequence[int],
        pictures: Sequence[PictureSource],
        each: int,
        about: dict[str, Any],
        keep_all: bool,
    ) -> None:
        self._place, self._order, self._pictures, self._each = place, order, pictures, each
        self._about, self._keep_all = {**about, "each": each, "pictures": len(order)}, keep_all
        self.outcomes: list[Outcome] = []
        self.position_of: dict[int, int] = {}  # slot -> position, for pictures that are not left out
        self._position_of_hash: dict[str, int] = {}  # hash of a picture's pixels -> position
        self._written = 0  # pictures in complete shards and in the current one
        self._parts = 0
        self._old: list[str] = []  # files that are in the way, removed before the first picture is written
        self._begun = 0  # where the current part begins in `outcomes`
        self._file: IO[bytes] | None = None
        self._file_context = ExitStack()  # the file, as long as it is needed
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="tunit-send")
        self._sending: Future[None] | None = None
        self._take_up()

    def __enter__(self) -> "UnfinishedShards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.shutdown(wait=True)
        if self._file is not None:
            self._file.close()
        self._file_context.close()

    def add(self, outcome: Outcome, square: NDArray[np.uint8] | None) -> None:
        """Add the outcome of the next picture, and its square (S, S, 3) unless it is left out."""
        if square is not None and self._note(outcome):
            self._remove_old()
            if self._file is None:
                self._file_context = ExitStack()
                self._file = self._file_context.enter_context(partial_in(self._place.scratch())).open("wb")
            self._file.write(member(self._written - 1, square))
        self.outcomes.append(outcome)
        if square is not None and self._written == (self._parts + 1) * self._each:
            self._end_part()

    def close(self) -> None:
        """Write the last shard."""
        if self._written > self._parts * self._each:
            self._end_part()
        if self._sending is not None:
            self._sending.result()

    def remove_parts(self) -> None:
        """Remove files that only an unfinished job needs."""
        for number in range(self._parts):
            self._place.remove(part_name(number))

    def _note(self, outcome: Outcome) -> bool:
        """Give the next picture its position. Returns whether the picture has to be written there."""
        assert isinstance(outcome, str)
        slot = self._order[len(self.outcomes)]
        known = None if self._keep_all else self._position_of_hash.get(outcome)
        self.position_of[slot] = self._written if known is None else known
        if known is not None:
            return False
        self._position_of_hash[outcome] = self._written
        self._written += 1
        return True

    def _end_part(self) -> None:
        """Close the current shard and send it while the next one is being written."""
        if self._sending is not None:
            self._sending.result()  # at most one shard waits on this machine's disk
        assert self._file is not None
        self._file.write(END)
        self._file.close()
        lines = [outcome_line(outcome) for outcome in self.outcomes[self._begun :]]
        part = {"about": self._about, "begin": self._begun, "outcomes": lines, "checksum": _checksum(lines)}
        path, self._file = Path(self._file.name), None
        data = json.dumps(part).encode()
        self._sending = self._sender.submit(self._send, self._parts, path, data, self._file_context)
        self._begun, self._parts = len(self.outcomes), self._parts + 1

    def _send(self, number: int, path: Path, part: bytes, file_context: ExitStack) -> None:
        with file_context:
            # First, so that the shard is never without a sign of tunit.
            self._place.write(part_name(number), part)
            self._place.take(shard_name(number), path)

    def _take_up(self) -> None:
        """Continue after the last complete shard of a killed job."""
        clear_abandoned(self._place.scratch())
        there = self._place.names()
        while {shard_name(self._parts), part_name(self._parts)} <= there:
            outcomes = self._outcomes_of(self._place.read(part_name(self._parts)))
            if outcomes is None:
                break
            for outcome in outcomes:
                if isinstance(outcome, str):
                    self._note(outcome)
                self.outcomes.append(outcome)
            self._begun, self._parts = len(self.outcomes), self._parts + 1
        kept = {name(n) for n in range(self._parts) for name in (shard_name, part_name)}
        self._old = [name for name in there - kept if name == INDEX or _OURS.fullmatch(name)]
        if self._parts:  # every shard has at least one picture, so the source has one
            self._remove_old()

    def _remove_old(self) -> None:
        """Remove files of earlier sets, and what a killed job left after its last complete shard."""
        # The JSON files last: if this job is killed here, the next one sees by them that the shards are of tunit.
        for name in sorted(self._old, key=lambda name: (name.endswith(".json"), name)):
            self._place.remove(name)
        self._old = []

    def _outcomes_of(self, data: bytes | None) -> list[Outcome] | None:
        """The outcomes in a part file; None if it is not the next part of this set."""
        try:
            part = parse_json((data or b"").decode("utf-8"))
            if part["about"] != self._about or part["begin"] != len(self.outcomes):
                return None
            if part["checksum"] != _checksum(part["outcomes"]):
                return None
            slots = self._order[len(self.outcomes) :]
            pairs = zip(part["outcomes"], slots, strict=False)
            found = [outcome_of(line, self._pictures[slot].name) for line, slot in pairs]
        except (ValueError, KeyError, TypeError):
            return None
        if any(outcome is None for outcome in found) or len(found) != len(part["outcomes"]):
            return None
        return cast(list[Outcome], found)


def _checksum(lines: Any) -> int:
    """The checksum of the outcomes in a part file: JSON with a changed byte in a hash is still valid."""
    return crc32(json.dumps(lines).encode())
