"""What `tunit translate` does with each source: redraw it, record the results, write them; and go on after a stop."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunit.commands.picture_arguments import counted, files_of, progress
from tunit.printing import numbered, remark

if TYPE_CHECKING:
    from PIL.Image import Image

    from tunit.data.finding.found import PictureSource
    from tunit.data.finding.places import UrlPlace
    from tunit.translation.inputs import Picture, Report
    from tunit.translation.unfinished_results import UnfinishedWork

# The results of at most this many sources may wait in memory to be saved, of fewer if they are large (MOST_PIXELS).
SAVED_BEHIND = 16
# In the hidden folder of a job: its results, if older ones must stay until all are complete.
STAGE = "results"
# Arguments on which the results depend, besides the sources, the references and the names of the results.
_ARGUMENTS = (
    "domain", "to_label", "from_label", "strength", "fit", "size", "restore_size", "restore_grey", "device",
    "precision", "compile", "max_pixels",
)  # fmt: skip


def named_apart(sources: "list[PictureSource]", names: list[str]) -> "list[PictureSource]":
    """The sources, where those with the same name as an earlier one are renamed after their result's name."""
    seen = set[str]()
    apart = []
    for source, name in zip(sources, names, strict=True):
        apart.append(replace(source, name=f"{source.name} for {name}") if source.name in seen else source)
        seen.add(source.name)
    return apart


@dataclass
class Results:
    """The files of a translation: for every source one in each of `folders`, with the same name in each.

    out: a folder, or the URL of one in a store, where each file replaces an older one as soon as it is complete.
    """

    out: Path | str
    folders: list[str]  # "" or names that end with a slash
    names: "dict[PictureSource, str]"
    _digests: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def store(self) -> "UrlPlace | None":
        """The store; None for a folder on this machine."""
        from tunit.data.finding.places import UrlPlace

        return UrlPlace(self.out) if isinstance(self.out, str) else None

    @cached_property
    def _in_store(self) -> set[str]:
        return self.store.all_names() if self.store else set()

    def claim(self, ours: set[str], keep: "list[PictureSource]", *, overwrite: bool) -> None:
        """Make sure that the files can be written. Raises DataError or RunError; see `check_names`.

        ours: files that a stopped job has written. keep: the sources and the references, which are never replaced.
        """
        from tunit.translation.result_files import check_names, check_names_in_store

        if not isinstance(self.out, str):
            check_names(self.out, self.all(), overwrite=overwrite, keep=files_of(keep), ours=ours)
            return
        there = [name for name in self.all() if name in self._in_store and name not in ours]
        check_names_in_store(self.out.rstrip("/"), there, overwrite=overwrite, keep=keep)

    @contextmanager
    def marked(self) -> Iterator[None]:
        """A context in which a new or empty folder is marked as a folder of results."""
        from tunit.files.atomic import RESULTS
        from tunit.translation.result_files import marked

        if isinstance(self.out, Path):
            with marked(self.out):
                yield
        else:
            if self.store and not self._in_store:
                self.store.write(RESULTS, b"")
            yield

    def write(self, place: Path, name: str, data: bytes) -> None:
        """Write a file, completely or not at all. place: see `place_for`. Raises DataError."""
        from tunit.translation.result_files import write_result

        if self.store:
            self.store.write(name, data)
        else:
            write_result(place / name, data)

    def finish(self, place: Path) -> None:
        """Move files that were held back into the folder. Raises UnwritableError."""
        from tunit.files.atomic import writable
        from tunit.files.destination import move_into

        if isinstance(self.out, Path) and place != self.out:
            with writable(self.out, "check its space, and give the same command again"):
                move_into(self.out, place)

    def of(self, source: "PictureSource") -> list[str]:
        """The names of the files of one source."""
        return [folder + self.names[source] for folder in self.folders]

    def all(self) -> list[str]:
        """The names of all files."""
        return [folder + name for folder in self.folders for name in self.names.values()]

    def ours(self, work: "UnfinishedWork") -> set[str]:
        """The names of the files that a stopped job has written."""
        found = set[str]()
        for source in self.names:
            digests = work.noted_result(source)
            if isinstance(digests, list):
                pairs = zip(self.of(source), digests, strict=False)
                found |= {name for name, digest in pairs if self._digest(work, name) == digest}
        return found

    def are_whole(self, work: "UnfinishedWork", source: "PictureSource", digests: Any) -> bool:
        """Whether the files of one source are there and have these digests."""
        names = self.of(source)
        return bool([self._digest(work, name) for name in names] == digests)

    def _digest(self, work: "UnfinishedWork", name: str) -> str | None:
        """The digest of a file; None if it is not there."""
        if name not in self._digests and self.store:
            data = self.store.read(name) if name in self._in_store else None
            self._digests[name] = None if data is None else digest_of(data)
        elif name not in self._digests:
            self._digests[name] = None
            for folder in (work.folder / STAGE, work.out):
                try:
                    self._digests[name] = digest_of((folder / name).read_bytes())
                    break
                except OSError:
                    continue
        return self._digests[name]


def digest_of(data: bytes) -> str:
    """The digest of a result."""
    return blake2b(data, digest_size=8).hexdigest()


def work_on(
    args: argparse.Namespace,
    results: Results,
    order: "list[PictureSource]",
    references: "list[PictureSource]",
) -> "UnfinishedWork":
    """The record with which this translation can go on, if it is stopped."""
    from tunit.data.finding.found import stamp_of_picture
    from tunit.translation.unfinished_results import UnfinishedWork, identity_of, place_of_record

    about = ["translate", *(str(getattr(args, name)) for name in _ARGUMENTS)]
    about += identity_of(args.model)
    for reference in references:
        about += [reference.name, stamp_of_picture(reference)]
    about += [str(args.out) if results.store else "", *results.all()]
    return UnfinishedWork(place_of_record(results.out), about, order, args.batch, results.are_whole)


def place_for(work: "UnfinishedWork", results: Results, ours: set[str]) -> Path:
    """The folder to write results into: `out` or, if old results must stay until all new ones are complete, a folder
    inside the job's hidden folder.
    """
    if results.store:
        return work.out
    stage = work.folder / STAGE
    replaces = any((work.out / name).exists() for name in results.all() if name not in ours)
    return stage if stage.is_dir() or replaces else work.out


def redraw_all(
    redraw: "Callable[..., Iterator[tuple[Picture, list[Image]]]]",
    results: Results,
    order: "list[PictureSource]",
    place: Path,
    report: "Report | None",
    work: "UnfinishedWork",
) -> int:
    """Write every result as soon as it is ready, into `place`; returns how many sources were translated."""
    from tunit.data.decoding.decode import PictureError
    from tunit.data.finding.found import PictureSource
    from tunit.data.finding.left_out import LeftOut
    from tunit.data.packing.ordered_threads import map_in_threads
    from tunit.translation.inputs import leave_out
    from tunit.translation.result_files import encoded, holds_transparency
    from tunit.translation.results import ANIMATED, MOST_PIXELS

    def write(result: "tuple[Picture, list[Image]]") -> LeftOut | None:
        """Write the results of one source. Returns the reason if they cannot be written."""
        found = cast(PictureSource, result[0])  # all sources here are of this type
        names = results.of(found)
        try:
            files = [encoded(name, image) for name, image in zip(names, result[1], strict=True)]
        except PictureError as error:
            return LeftOut(found.name, error.reason, error.detail)
        for name, image in zip(names, result[1], strict=True):
            if image.mode in ("RGBA", "LA") and not holds_transparency(name):
                lost.add(found.name)
            if image.info.get(ANIMATED):
                animated.add(found.name)
        # Recorded first: so a file that is there without a record is somebody else's.
        work.note(found, [digest_of(data) for data in files])
        for name, data in zip(names, files, strict=True):
            results.write(place, name, data)
        return None

    def leave(item: LeftOut) -> None:
        """Report a source that cannot be used, and record it."""
        work.note_left_out(item)
        leave_out(item, report)

    written = _done_before(work, order, report)
    animated = set[str]()  # sources that are animations
    lost = set[str]()  # transparent sources whose results have a format without transparency
    left = order[work.done :]
    with progress(len(left), "translating") as advance:
        # Saving runs in threads, so that the networks need not wait for it.
        drawn = redraw(counted(left, advance), report=leave)
        waiting = map_in_threads(write, drawn, ahead=SAVED_BEHIND, weight=pixels_of, most=MOST_PIXELS)
        with closing(waiting) as outcomes:
            for problem in outcomes:
                if problem is not None:
                    leave(problem)
                else:
                    written += 1
    _tell_what_is_lost(lost, animated)
    return written


def pixels_of(result: "tuple[Picture, list[Image]]") -> int:
    """The number of pixels of one source's results."""
    return sum(image.width * image.height for image in result[1])


def _done_before(work: "UnfinishedWork", order: "list[PictureSource]", report: "Report | None") -> int:
    """Report what a stopped job has left out; returns how many sources it has translated."""
    from tunit.translation.inputs import leave_out

    if work.done:
        remark(f"going on after {work.done:,} of {len(order):,} sources")
    written = 0
    for _, found in work.finished_sources():
        if found.left_out is None:
            written += 1
        else:
            leave_out(found.left_out, report)
    return written


def _tell_what_is_lost(lost: set[str], animated: set[str]) -> None:
    """Report what the results lack compared with their sources."""
    if lost:
        what = _counted(
            lost, "the result of {} is opaque", "the results of {} are opaque", "transparent source"
        )
        remark(f"{what}, because of the format: use --format png")
    if animated:
        what = _counted(animated, "{} is an animation", "{} are animations", "source")
        remedy = "convert one to a GIF or a video, and give it by itself with a name such as out.mp4 as --out"
        if any(name.lower().endswith(".gif") for name in animated):
            remedy = "give a GIF by itself, with a name such as out.mp4 as --out, for a video"
        remark(f"{what}, of which only the first picture was redrawn: {remedy}")


def _counted(names: set[str], one: str, several: str, noun: str) -> str:
    """What is said of one source or of several: "1 source is ...", "2 sources are ..."."""
    return (one if len(names) == 1 else several).format(numbered(len(names), noun))
