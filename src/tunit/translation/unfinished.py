"""Resume translations that were stopped: a journal in the folder of results lists the sources that are done.

A resumed job begins at the start of a batch. So all batches, and all bytes of the results, are the same as without
the stop.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tunit.data.finding.found import PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.files import clear_leftovers

JOURNAL, WEIGHTS = ".tunit-unfinished", "model.safetensors"


def stamp_of(model: Path) -> str:
    """A value that changes when the model in a folder changes."""
    try:
        status = (model / WEIGHTS).stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


class UnfinishedTranslation:
    """The journal of a job in the folder `out`.

    about: what the results depend on; order: the sources in reading order, with different names; batch: how many are
        computed together.
    """

    def __init__(self, out: Path, about: Sequence[str], order: Sequence[PictureSource], batch: int) -> None:
        self._path = out / JOURNAL
        digest = hashlib.blake2b(digest_size=16)
        for part in (*about, *(source.name for source in order)):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        self._head = json.dumps({"job": digest.hexdigest()})
        self._order, self._batch = order, batch
        self.left_out: list[LeftOut] = []
        self.written = 0
        self.done = 0  # how many sources at the beginning are finished
        self.goes_on = self._read()
        self._file: IO[str] | None = None

    def __enter__(self) -> "UnfinishedTranslation":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self._path.parent)
        self._file = self._path.open("w", encoding="utf-8")
        self._line(self._head)
        for source in self._order[: self.done]:
            self._line(json.dumps([source.name]))
        for item in self.left_out:
            self._line(json.dumps([item.name, item.reason, item.detail]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            self._path.unlink(missing_ok=True)

    def note(self, name: str, problem: LeftOut | None) -> None:
        """Record that a source is done, or why it was left out."""
        self._line(json.dumps([name] if problem is None else [name, problem.reason, problem.detail]))

    def _line(self, text: str) -> None:
        assert self._file is not None
        self._file.write(text + "\n")
        self._file.flush()

    def _read(self) -> bool:
        """Read what a stopped job has left. Returns whether there is anything."""
        try:
            head, *lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return False
        if head != self._head:
            return False
        outcomes: dict[str, list[Any]] = {}
        for line in lines:
            try:
                name, *problem = json.loads(line)
            except ValueError:
                break
            outcomes[name] = problem
        good = 0
        for number, source in enumerate(self._order):
            problem = outcomes.get(source.name)
            if problem is None:
                break
            good += not problem
            if not problem and good % self._batch == 0:
                self.done, self.written = number + 1, good
        for source in self._order[: self.done]:
            if problem := outcomes[source.name]:
                self.left_out.append(LeftOut(source.name, *problem))
        return True
