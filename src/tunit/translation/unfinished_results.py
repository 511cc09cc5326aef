"""Continue translating or sorting after a stop: a hidden folder among the results records the finished sources.

A job begins again at the start of a batch. So all batches and results are the same, to the byte, as without the stop.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tunit._version import __version__
from tunit.data.finding.found import PictureSource, stamp_of_picture
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.places import local_scratch
from tunit.errors import RunError
from tunit.files.atomic import LockedError, lock, writable
from tunit.files.work_journal import WorkJournal
from tunit.methods.model_file import TENSORS
from tunit.translation.result_files import UNWRITABLE


def identity_of(model: Path) -> list[str]:
    """Strings that change when another model is given, or when the model changes: for the record of a job.

    model: a folder, a file in one, or a name on the hub.
    """
    if not model.exists():
        return [str(model)]
    folder = model if model.is_dir() else model.parent
    try:
        status = (folder / TENSORS).stat()
    except OSError:
        return [str(folder.resolve()), ""]
    return [str(folder.resolve()), f"{status.st_size} {status.st_mtime_ns}"]


def place_of_record(out: Path | str) -> Path:
    """The folder for the record of a job: among its results, or on this machine if these go to a store (a URL)."""
    return local_scratch() if isinstance(out, str) else out


class Finished(NamedTuple):
    """What an earlier job has noted about a source."""

    stamp: str  # of the source at that time
    result: Any  # what the command has noted; None if the source was left out
    left_out: LeftOut | None


class UnfinishedWork:
    """The record of a job in the folder `out`, as a context that only one process at a time can enter.

    about: what the results depend on, besides the sources; order: the sources in the order of work, with different
        names; batch: how many are computed together.
    is_whole: tells whether the noted results of a source still exist.

    If the block ends without an error, or before any result was noted, the record is removed.
    """

    def __init__(
        self,
        out: Path,
        about: Sequence[str],
        order: Sequence[PictureSource],
        batch: int,
        is_whole: "Callable[[UnfinishedWork, PictureSource, Any], bool]",
    ) -> None:
        digest = hashlib.blake2b(digest_size=8)
        for part in (__version__, str(batch), *about, *(source.name for source in order)):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        self.out, self.folder = out, out / f".tunit-unfinished.{digest.hexdigest()}"
        self._journal = WorkJournal(self.folder / "journal", {"tunit": __version__})
        self._order, self._batch, self._is_whole = order, batch, is_whole
        self._stamps = {source.name: stamp_of_picture(source) for source in order}
        self._held = ExitStack()
        self._made: list[Path] = []  # folders that were missing
        self._noted = False  # whether the record has results, which would have to be made again without it
        self.done = 0  # how many sources at the beginning are finished
        self._lines = 0
        self._noted_before: dict[str, Finished] = {}
        self._read()

    def __enter__(self) -> "UnfinishedWork":
        self._made = [above for above in (self.out, *self.out.parents) if not above.exists()]
        with writable(self.out, "give another --out"), self._held:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._held.enter_context(lock(self.folder / ".lock"))
            except LockedError as error:
                raise RunError(
                    f"{error.owner} does the same work in {self.out} now: wait until it has ended, or end it"
                ) from None
            self._read()
            self._journal.begin(self._lines)
            self._held = self._held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        if kind is None or not self._noted:
            with suppress(OSError):
                for path in self.folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                self._held.close()
                self._journal.remove()
                self.folder.rmdir()
                for made in self._made:  # innermost first; only those that are still empty can be removed
                    made.rmdir()
        self._held.close()

    def noted_result(self, source: PictureSource) -> Any:
        """The result that an earlier job noted for a source, even if the source has changed since; None if none."""
        found = self._noted_before.get(source.name)
        return None if found is None else found.result

    def finished_sources(self) -> Iterator[tuple[PictureSource, Finished]]:
        """The first `done` sources, with what was noted about them."""
        for source in self._order[: self.done]:
            yield source, self._noted_before[source.name]

    def note(self, source: PictureSource, result: Any) -> None:
        """Record the result (a JSON value) of a source. Raises UnwritableError."""
        self._add([source.name, self._stamps[source.name], result])
        self._noted = True

    def note_left_out(self, item: LeftOut) -> None:
        """Record why a source was left out. Raises UnwritableError."""
        self._add([item.name, self._stamps.get(item.name, ""), item.reason, item.detail])

    def _add(self, step: Any) -> None:
        with writable(self.folder, "make room and give the same command, which goes on where it stopped"):
            self._journal.add(step)

    def _read(self) -> None:
        """Read what a stopped job has left."""
        self._noted_before.clear()
        self._lines = self.done = 0
        for step in self._journal.steps():
            self._lines += 1
            match step:
                case [str(name), str(stamp), result] if result is not None:
                    self._noted_before[name] = Finished(stamp, result, None)
                    self._noted = True
                case [str(name), str(stamp), str(reason), str(detail)]:
                    self._noted_before[name] = Finished(stamp, None, LeftOut(name, reason, detail))
        computed = 0  # how many sources have gone through the networks; only whole batches of them are done
        for number, source in enumerate(self._order, 1):
            found = self._noted_before.get(source.name)
            if found is None or found.stamp != self._stamps[source.name]:
                return
            if found.left_out is None and not self._is_whole(self, source, found.result):
                return
            if found.left_out is None or found.left_out.reason == UNWRITABLE:
                computed += 1
                if computed % self._batch == 0:
                    self.done = number
        self.done = len(self._order)
