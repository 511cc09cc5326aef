"""What `tunit translate` does with each source: redraw it, record the results, write them; and go on after a stop."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunit.commands.picture_arguments import counted, progress, say

if TYPE_CHECKING:
    from PIL.Image import Image

    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Picture, Report
    from tunit.translation.unfinished import UnfinishedWork

SAVED_BEHIND = 16  # the results of at most this many sources may wait in memory to be saved
STAGE = "results"  # in the record of a job: its results, if older ones must stay until all are complete
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
    """The files of a translation: for every source one in each of `folders`, with the same name in each."""

    out: Path
    folders: list[str]  # "" or names that end with a slash
    names: "dict[PictureSource, str]"
    _digests: dict[str, str | None] = field(default_factory=dict)

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
            digests = work.noted(source)
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
        if name not in self._digests:
            self._digests[name] = None
            for folder in (work.folder / STAGE, self.out):
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
    from tunit.data.finding.found import stamp_of
    from tunit.translation.unfinished import UnfinishedWork, stamp_of_model

    about = ["translate", *(str(getattr(args, name)) for name in _ARGUMENTS)]
    about += [str(args.model.resolve()), stamp_of_model(args.model)]
    for reference in references:
        about += [reference.name, stamp_of(reference)]
    return UnfinishedWork(args.out, [*about, *results.all()], order, args.batch, results.are_whole)


def place_for(work: "UnfinishedWork", results: Results, ours: set[str]) -> Path:
    """The folder to write results into: `out` or, if old results must stay until all new ones are complete, a folder
    in the record of the job.
    """
    stage = work.folder / STAGE
    replaces = any((results.out / name).exists() for name in results.all() if name not in ours)
    return stage if stage.is_dir() or replaces else results.out


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
    from tunit.data.packing.overlap import map_in_threads
    from tunit.translation.inputs import leave_out
    from tunit.translation.outputs import encoded, holds_transparency, write_bytes
    from tunit.translation.results import ANIMATED

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
            write_bytes(place / name, data)
        return None

    def leave(item: LeftOut) -> None:
        """Report a source that cannot be used, and record it."""
        work.note_left_out(item)
        leave_out(item, report)

    written = _already(work, order, report)
    animated = set[str]()  # sources that are animations
    lost = set[str]()  # transparent sources whose results have a format without transparency
    left = order[work.done :]
    with progress(len(left), "translating") as advance:
        # Saving runs in threads, so that the networks need not wait for it.
        drawn = redraw(counted(left, advance), report=leave)
        with closing(map_in_threads(write, drawn, ahead=SAVED_BEHIND)) as outcomes:
            for problem in outcomes:
                if problem is not None:
                    leave(problem)
                else:
                    written += 1
    _tell(lost, animated)
    return written


def _already(work: "UnfinishedWork", order: "list[PictureSource]", report: "Report | None") -> int:
    """Report what a stopped job has left out; returns how many sources it has translated."""
    from tunit.translation.inputs import leave_out

    if work.done:
        say(f"going on after {work.done:,} of {len(order):,} sources")
    written = 0
    for _, found in work.finished():
        if found.left_out is None:
            written += 1
        else:
            leave_out(found.left_out, report)
    return written


def _tell(lost: set[str], animated: set[str]) -> None:
    """Report what the results lack compared with their sources."""
    if lost:
        say(
            f"the results of {len(lost):,} transparent sources are opaque, because of their format: use --format png"
        )
    if animated:
        say(
            f"{len(animated):,} sources are animations, of which only the first picture was redrawn: give a GIF by "
            "itself and a name such as out.mp4 as --out for a video"
        )
