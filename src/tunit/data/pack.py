"""From a source to a pack: every picture is found, decoded, fitted and packed once, and batches are drawn from there.

    find      search.py    its name, label and way to its bytes (find.py: folders, archives, lists; layouts/)
    decode    squares.py   its bytes as an upright RGB image, in a worker process (decode.py)
    fit       squares.py   that image as a square of S x S pixels (fit.py)
    pack      packed.py    the square at its place in one file, its hash in the index
    batch     batches.py   drawn step by step from that file, as two views (augment.py)

The pixels of each picture are written to their place in the file as soon as they are ready, so the memory does not
grow with the number of pictures.
"""

import contextlib
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tunit.data import packed as packs
from tunit.data.archives import DUPLICATE, close_archives
from tunit.data.databases import close_databases
from tunit.data.decode import PictureError
from tunit.data.found import Found, PictureSource, reading_order
from tunit.data.left_out import LeftOut, summarise_left_out
from tunit.data.overlap import map_in_threads
from tunit.data.pack_settings import PackSettings
from tunit.data.packed import Index, PackedPictures
from tunit.data.search import Search
from tunit.data.squares import fitted
from tunit.data.workers import usable_cores
from tunit.errors import DataError
from tunit.paths import expand_home

_AHEAD = 4  # pictures handed out for each process: enough to keep all busy
_TELL_EVERY = 16  # pictures between two calls of `progress`
_WORTH_A_PROCESS = 128  # pictures; starting a process takes about as long as decoding so many


def pack_pictures(
    source: Path,
    cache: Path,
    settings: PackSettings,
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PackedPictures:
    """Pack the pictures of `source` into the folder `cache`, or reuse what it holds if nothing changed.

    The source is only read. Pictures that cannot be used are left out and listed with the reason; so are repetitions
    of a picture, unless `settings.keep_duplicates`.

    workers: processes that decode; None takes as many as there are cores and enough work.
    strict: the first bad picture raises DataError; a repetition is not bad.
    progress: called with (pictures done, pictures in all).

    Raises DataError if no picture is left, or the source or the cache cannot be used.
    """
    # True while a spawned process imports its main script. A script without a main guard gets here then, and would
    # wait for its own parent. multiprocessing recognises this state by the same attribute.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        guard = 'if __name__ == "__main__":'
        raise DataError(f"the main script packs pictures when it is imported: put that under {guard}")
    # Absolute, because a spawned process starts in the folder where this one started.
    source, cache = expand_home(source).absolute(), expand_home(cache).absolute()
    search = Search(source, settings)
    packed = _reuse(cache, search)
    if packed is None:
        if cache.resolve() == source.resolve():
            raise DataError(f"{cache} holds the pictures themselves: choose another folder for the cache")
        packs.claim(cache)
        with packs.locked(cache):
            packed = _reuse(cache, search)  # another process may have made it meanwhile
            if packed is None:
                _build(search, cache, workers, strict, progress)
                return packs.open_packed(cache, reused=False, verify=False)
    if strict:
        _refuse_bad(source, packed.left_out)
    return packed


def still_packed(source: Path, cache: Path, settings: PackSettings) -> PackedPictures | None:
    """The pack that `pack_pictures` would reuse; None if it would pack anew. Raises DataError as it does."""
    return _reuse(Path(cache).absolute(), Search(Path(source).absolute(), settings))


def _reuse(cache: Path, search: Search) -> PackedPictures | None:
    try:
        index, packed = packs.open_cache(cache)
    except DataError:
        return None
    same = index.settings == search.settings.as_json() and index.fingerprint == search.fingerprint
    return packed if same else None


def _build(
    search: Search,
    cache: Path,
    workers: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make a pack in the folder `cache`, which this process holds."""
    source, settings, found = search.source, search.settings, search.found
    if strict:
        _refuse_bad(source, found.left_out)
    count = len(found.pictures)
    needed, free = count * packs.record_bytes(settings.size), shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(f"{cache} has {free:,} bytes free and {needed:,} are needed: choose another folder")
    pixels = None
    try:
        pixels = packs.new_pixels(cache, count, settings.size)
        hashes, left_out = _fill(pixels, search, workers, strict, progress)
        keep, repeated = _unique(found.pictures, hashes, settings.keep_duplicates)
        left_out = sorted(found.left_out + left_out + repeated, key=lambda item: (item.name, item.reason))
        if not keep:
            summary = summarise_left_out(left_out)
            raise DataError(f"{source} holds no picture that can be used ({summary}): add some")
        packs.keep_records(pixels, keep, settings.size)
        packs.install(cache, pixels, _index(found, keep, hashes, left_out, settings))
    except OSError as error:  # of the cache, because reading a picture raises PictureError
        raise DataError(f"{cache} cannot be written to ({error.strerror}): choose another folder") from error
    finally:
        close_archives()
        close_databases()
        if pixels is not None:
            with contextlib.suppress(OSError):
                pixels.unlink(missing_ok=True)


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
    """The slots to keep, ascending, and the repetitions among the rest."""
    first: dict[str, PictureSource] = {}
    keep, repeated = [], []
    for slot, (picture, digest) in enumerate(zip(pictures, hashes, strict=True)):
        if digest is None:
            continue
        original = first.setdefault(digest, picture)
        if original is picture or keep_duplicates:
            keep.append(slot)
            continue
        clash = ""
        if original.label != picture.label:
            clash = f", which is labelled {original.label!r} and this one {picture.label!r}"
        repeated.append(LeftOut(picture.name, DUPLICATE, f"the same picture as {original.name}{clash}"))
    return keep, repeated


# A slot with the digest of its pixels, or with the reason why it stays empty.
_Outcome = tuple[int, str | LeftOut]


def _fill(
    pixels: Path,
    search: Search,
    workers: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[str | None], list[LeftOut]]:
    """Decode and fit every picture, and write it to its slot of `pixels`.

    Returns the digest of every slot, None for those left out, and what was left out.
    """
    pictures, how = search.found.pictures, search.settings.squaring()
    count = len(pictures)
    if workers is None:
        workers = min(usable_cores(), max(1, count // _WORTH_A_PROCESS))

    def pack_one(slot: int) -> _Outcome:
        """Decode, fit and write one picture, on a thread that waits for its worker process."""

        picture = pictures[slot]
        try:
            square = fitted(picture, how).pixels
        except PictureError as error:
            return slot, LeftOut(picture.name, error.reason, error.detail)
        packs.write_record(pixels, slot, square)
        return slot, packs.hash_of(square)

    hashes: list[str | None] = [None] * count
    left_out: list[LeftOut] = []
    # In the order in which reading the source is fastest.
    slots = reading_order(pictures)
    with contextlib.closing(
        map_in_threads(pack_one, slots, ahead=_AHEAD * workers, threads=workers)
    ) as outcomes:
        for done, (slot, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, LeftOut):
                left_out.append(outcome)
                if strict:
                    _refuse_bad(search.source, [outcome])
            else:
                hashes[slot] = outcome
            if progress is not None and (done % _TELL_EVERY == 0 or done == count):
                progress(done, count)
    return hashes, left_out


def _refuse_bad(source: Path, left_out: list[LeftOut]) -> None:
    """For strict: raise DataError if a picture cannot be used."""
    bad = [item for item in left_out if item.reason != DUPLICATE]
    if bad:
        raise DataError(f"{source}: {summarise_left_out(bad)}: mend or remove them, or leave strict off")
