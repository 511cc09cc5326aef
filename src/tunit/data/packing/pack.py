"""From a source to a pack: every picture is found, decoded, fitted and packed once; batches are drawn from the pack.

    find      search.py                 its name, label and way to its bytes (../finding/find.py; ../layouts/)
    decode    squares.py                its bytes as an upright RGB image (../decoding/decode.py, in a worker process)
    fit       squares.py                that image as a square of S x S pixels (fit.py)
    pack      unfinished_pack.py        the square at its place in one file; at the end the index (packed.py)
    batch     ../batching/batches.py    drawn step by step from that file, as two views (../batching/augment.py)

Each picture that was found has a slot: its number in the order of names, which is also its place in the file until
the end, when the slots of pictures that are left out are removed. The pixels of a picture are written to its slot as
soon as they are ready, so the memory does not grow with the number of pictures; unfinished_pack.py keeps what is done
if a job is killed.
"""

import contextlib
import multiprocessing
import shutil
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tunit.data.decoding.decode import PictureError
from tunit.data.decoding.workers import usable_cores
from tunit.data.finding.archives import DUPLICATE, close_archives
from tunit.data.finding.databases import close_databases
from tunit.data.finding.found import Found, PictureSource, reading_order
from tunit.data.finding.left_out import LeftOut, summarise_left_out
from tunit.data.packing import packed as packs
from tunit.data.packing.on_ray import ray_map_in_chunks
from tunit.data.packing.ordered_threads import map_in_threads
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import Index, PackedPictures
from tunit.data.packing.search import Search
from tunit.data.packing.squares import Squaring, fitted
from tunit.data.packing.unfinished_pack import JOURNAL, UNFINISHED, Outcome, UnfinishedPack, by_slot
from tunit.errors import DataError
from tunit.files.paths import expand_home
from tunit.printing import remark

_AHEAD = 4  # pictures that are handed to each process in advance, so that all are busy
_TELL_EVERY = 16  # pictures between two calls of `progress`
_CHUNK = 32  # pictures in a task of a cluster
_WORTH_A_PROCESS = 128  # to start a process takes about as long as to decode this many pictures


def pack_pictures(
    source: Path,
    folder: Path,
    settings: PackSettings,
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    resume: bool = False,
    engine: str = "local",
) -> PackedPictures:
    """Pack the pictures of `source` into `folder`, or reuse what it holds if nothing changed.

    Returns the packed pictures. The source is only read. Pictures that cannot be used are left out and listed with
    the reason; so are copies of a picture, unless `settings.keep_duplicates`.

    workers: processes that decode; None takes as many as there are cores and enough work.
    strict: the first bad picture raises DataError; a copy is not bad.
    progress: called with (pictures done, all pictures).
    resume: leave what is done in `folder` if this call ends early, and go on with what an earlier call has left.
    engine: "local", or "ray" to decode on a cluster whose machines find the source under the same name.

    Raises DataError if no picture is left, or the source or the folder cannot be used.
    """
    # A spawned process imports the main script. Without a main guard, the script would start to pack again here, and
    # wait for its own parent. During this import `_inheriting` is True; multiprocessing itself checks it, too.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        guard = 'if __name__ == "__main__":'
        raise DataError(f"the main script packs pictures when it is imported: put that under {guard}")
    # Absolute, because a spawned process starts in the folder where this one started.
    source, folder = expand_home(source).absolute(), expand_home(folder).absolute()
    search = Search(source, settings)
    packed = _reuse(folder, search)
    if packed is None or (resume and (folder / JOURNAL).exists()):
        if folder.resolve() == source.resolve():
            raise DataError(f"{folder} holds the pictures themselves: choose another --out")
        packs.check_without_shards(folder)
        packs.claim(folder)
        with packs.locked(folder) as alone:
            if resume and not alone:
                remark(
                    f"{folder} cannot be locked on this file system: if this is stopped, it begins anew next time"
                )
            packed = _reuse(folder, search)  # another process may have made it meanwhile
            if packed is None:
                _build(search, folder, workers, strict, progress, resume=resume and alone, engine=engine)
                return packs.open_packed(folder, reused=False, verify=False)
            if resume and alone:  # of an earlier job that was killed, perhaps with other settings
                (folder / UNFINISHED).unlink(missing_ok=True)
                (folder / JOURNAL).unlink(missing_ok=True)
    if strict:
        refuse_bad(source, packed.left_out)
    return packed


def still_packed(source: Path, folder: Path, settings: PackSettings) -> PackedPictures | None:
    """The pack that `pack_pictures` would reuse; None if it would make a new one. Raises the same DataErrors."""
    return _reuse(Path(folder).absolute(), Search(Path(source).absolute(), settings))


def _reuse(folder: Path, search: Search) -> PackedPictures | None:
    try:
        index, packed = packs.open_pack_with_index(folder)
    except DataError:
        return None
    if index.shards is not None or index.settings != search.settings.as_json():
        return None
    return packed if index.fingerprint == search.fingerprint else None


def _build(
    search: Search,
    folder: Path,
    workers: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
    *,
    resume: bool,
    engine: str,
) -> None:
    """Make a pack in `folder`, whose lock this process has."""
    source, settings, found = search.source, search.settings, search.found
    if strict:
        refuse_bad(source, found.left_out)
    order = reading_order(found.pictures)
    try:
        with UnfinishedPack(folder, order, found.pictures, settings.size, search.about, resume) as unfinished:
            _check_space(folder, len(order) - len(unfinished.outcomes), settings.size)
            fill(search, order, unfinished, workers, strict, progress, engine)
            hashes, left_out = by_slot(order, unfinished.outcomes)
            keep, index = index_of(search, hashes, left_out)
            unfinished.install(keep, index)
            return
    except OSError as error:  # from writing the pack, because errors of reading a picture are PictureErrors
        remedy = "choose another folder"
        if resume:
            remedy = f"make room and give the same command, which goes on where it stopped, or {remedy}"
        raise packs.UnwritablePackError(folder, error, remedy) from error
    except packs.LostPictureError:
        unfinished.discard()
    finally:
        close_archives()
        close_databases()
    # The disk has lost pixels that an earlier job wrote (`UnfinishedPack.install`): begin again, without its work.
    _build(search, folder, workers, strict, progress, resume=resume, engine=engine)


def _check_space(folder: Path, pictures: int, size: int) -> None:
    needed, free = pictures * packs.bytes_per_picture(size), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder} has {free:,} bytes free and {needed:,} are needed: choose another folder")


def index_of(search: Search, hashes: list[str | None], left_out: list[LeftOut]) -> tuple[list[int], Index]:
    """The slots of the pictures to keep, ascending, and their index.

    hashes: the hash of every slot's pixels, None if it is empty; left_out: the reasons for these. Raises DataError if
    none is kept.
    """
    found, settings = search.found, search.settings
    keep, repeated = _unique(found.pictures, hashes, settings.keep_duplicates)
    left_out = sorted(found.left_out + left_out + repeated, key=lambda item: (item.name, item.reason))
    if not keep:
        summary = summarise_left_out(left_out)
        raise DataError(f"{search.source} holds no picture that can be used ({summary}): add some")
    return keep, _index(found, keep, hashes, left_out, settings)


def _index(
    found: Found, keep: list[int], hashes: list[str | None], left_out: list[LeftOut], settings: PackSettings
) -> Index:
    kept = [found.pictures[slot] for slot in keep]
    classes = sorted({picture.label for picture in kept if picture.label is not None})
    number = {name: index for index, name in enumerate(classes)}
    return Index(
        size=settings.size,
        settings=settings.as_json(),
        fingerprint=found.fingerprint,
        names=[picture.name for picture in kept],
        labels=[-1 if picture.label is None else number[picture.label] for picture in kept],
        classes=classes,
        hashes=[cast(str, hashes[slot]) for slot in keep],
        left_out=left_out,
        notes=list(found.notes),
    )


def _unique(
    pictures: list[PictureSource], hashes: list[str | None], keep_duplicates: bool
) -> tuple[list[int], list[LeftOut]]:
    """The slots to keep, ascending, and the copies of pictures among the rest.

    Of identical pictures the first that has a label is kept; if none has one, the first. So a label is not lost if
    another copy has none.
    """
    originals: dict[str, PictureSource] = {}
    for picture, pixel_hash in zip(pictures, hashes, strict=True):
        if pixel_hash is None:
            continue
        original = originals.setdefault(pixel_hash, picture)
        if original.label is None and picture.label is not None:
            originals[pixel_hash] = picture
    keep, repeated = [], []
    for slot, (picture, pixel_hash) in enumerate(zip(pictures, hashes, strict=True)):
        if pixel_hash is None:
            continue
        original = originals[pixel_hash]
        if original is picture or keep_duplicates:
            keep.append(slot)
            continue
        clash = ""
        if original.label != picture.label:
            clash = f", which is labelled {original.label!r}"
            clash += "" if picture.label is None else f" and this one {picture.label!r}"
        repeated.append(LeftOut(picture.name, DUPLICATE, f"the same picture as {original.name}{clash}"))
    return keep, repeated


class Unfinished(Protocol):
    """The output that is being written: a pack on this disk, or shards."""

    outcomes: list[Outcome]

    def add(self, outcome: Outcome, square: NDArray[np.uint8] | None) -> None:
        """Add the outcome of the next picture, and its pixels unless it is left out."""


def fill(
    search: Search,
    order: list[int],
    unfinished: Unfinished,
    workers: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
    engine: str = "local",
) -> None:
    """Decode and fit the pictures in the given order, except those that are done, and add each."""
    pictures = search.found.pictures
    count, done = len(order), len(unfinished.outcomes)
    if done:
        remark(f"going on after {done:,} of {count:,} pictures")
    if strict:
        refuse_bad(search.source, [item for item in unfinished.outcomes if isinstance(item, LeftOut)])
    left = [pictures[slot] for slot in order[done:]]
    with contextlib.closing(_squares(left, search.settings.squaring(), workers, engine)) as squares:
        for number, (outcome, square) in enumerate(squares, start=done + 1):
            unfinished.add(outcome, square)
            if strict and isinstance(outcome, LeftOut):
                refuse_bad(search.source, [outcome])
            if progress is not None and (number % _TELL_EVERY == 0 or number == count):
                progress(number, count)


_Done: TypeAlias = tuple[Outcome, NDArray[np.uint8] | None]


def _squares(
    pictures: list[PictureSource], how: Squaring, workers: int | None, engine: str
) -> Generator[_Done, None, None]:
    """The outcome of each picture, in order: computed by processes of this machine, or on a cluster."""
    square_of = partial(_square_of, how)
    if engine == "ray":
        return ray_map_in_chunks(square_of, pictures, _CHUNK)
    if workers is None:
        workers = min(usable_cores(), max(1, len(pictures) // _WORTH_A_PROCESS))
    return map_in_threads(square_of, pictures, ahead=_AHEAD * workers, threads=workers)


def _square_of(how: Squaring, picture: PictureSource) -> _Done:
    """Decode and fit one picture, on a thread that waits for its worker process."""
    try:
        square = fitted(picture, how).pixels
    except PictureError as error:
        return LeftOut(picture.name, error.reason, error.detail), None
    return packs.hash_of(square), square


def refuse_bad(source: Path, left_out: list[LeftOut]) -> None:
    """For strict: raise DataError if a picture cannot be used."""
    bad = [item for item in left_out if item.reason != DUPLICATE]
    if bad:
        raise DataError(f"{source}: {summarise_left_out(bad)}: repair or remove them, or leave out --strict")
