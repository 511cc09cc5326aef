"""Data sets packed as shards: `index.json` and tar files next to it, in a folder or in a store."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.archives import close_archives
from tunit.data.finding.databases import close_databases
from tunit.data.finding.found import reading_order
from tunit.data.finding.index import Index, Shards, write_index
from tunit.data.finding.naming import INDEX
from tunit.data.finding.places import Place, place_of
from tunit.data.finding.sharded_sets import index_at
from tunit.data.finding.stores import as_store_error
from tunit.data.packing import packed as packs
from tunit.data.packing.pack import fill, index_of, refuse_bad
from tunit.data.packing.packed import PackedPictures, pictures_of
from tunit.data.packing.search import Search
from tunit.data.packing.sharded import ShardedImages, is_whole
from tunit.data.packing.unfinished_pack import by_slot
from tunit.data.packing.unfinished_shards import UnfinishedShards, refuse_foreign
from tunit.errors import DataError
from tunit.files.atomic import replacing, writable
from tunit.files.partials import partial_in
from tunit.files.paths import path_or_url


def pack_shards(
    search: Search,
    where: Path | str,
    each: int,
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    engine: str = "local",
) -> PackedPictures:
    """Pack the pictures of a source as shards of `each` pictures in a folder or at a URL, or reuse existing shards.

    Returns the packed pictures. Arguments and errors are those of `pack_pictures`. Continues the work of an earlier
    call that was interrupted. Shards that are damaged are written again. Raises DataError if the place holds another
    finished set, which runs may read there, or files of another program.
    """
    where = path_or_url(where)
    place = place_of(where)
    if isinstance(where, Path) and where.resolve() == search.source.resolve():
        raise DataError(f"{where} holds the pictures themselves: choose another folder")
    refuse_foreign(place)  # before `claim` marks the folder as ours
    if isinstance(where, Path):
        packs.claim(where)
    try:
        with packs.locked(where) if isinstance(where, Path) else nullcontext(False):
            index = index_at(place, check=False)
            if index is not None and not _same(index, search, each):
                raise DataError(
                    f"{where} holds a set of other pictures or settings, which runs may read there: give another "
                    "--out, or remove it first"
                )
            if index is None or not is_whole(place, index):
                if strict:
                    refuse_bad(search.source, search.found.left_out)
                index, reused = _write(search, place, each, workers, strict, progress, engine), False
            else:
                reused = True
    finally:
        close_archives()
        close_databases()
    if strict:
        refuse_bad(search.source, index.left_out)
    assert index.shards is not None
    images = cast(NDArray[np.uint8], ShardedImages(place, index, index.shards))
    return pictures_of(index, images, reused=reused)


def still_sharded(search: Search, where: Path | str, each: int) -> bool:
    """Whether `pack_shards` would reuse the shards that are there, unless they are damaged. Raises the same
    DataErrors.
    """
    index = index_at(place_of(where), check=False)
    return index is not None and _same(index, search, each)


def copy_index(index: Index, folder: Path, *, labels: bool) -> PackedPictures:
    """Copy the index into `folder`, with or without labels; the pixels remain in their shards.

    Returns the packed pictures. Raises DataError or RunError if the folder cannot be written.
    """
    packs.claim(folder)
    if not labels:
        index = replace(index, labels=[-1] * len(index.names), classes=[])
    with writable(folder / INDEX), replacing(folder / INDEX) as partial:
        write_index(partial, index)
    return packs.open_packed(folder, reused=False)


def _same(index: Index, search: Search, each: int) -> bool:
    return (
        index.shards is not None
        and index.shards.each == each
        and index.settings == search.settings.as_json()
        and index.fingerprint == search.fingerprint
    )


def _write(
    search: Search,
    place: Place,
    each: int,
    workers: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
    engine: str,
) -> Index:
    pictures = search.found.pictures
    order = reading_order(pictures)
    keep_all = search.settings.keep_duplicates
    with UnfinishedShards(place, order, pictures, each, search.about, keep_all) as unfinished:
        try:
            fill(search, order, unfinished, workers, strict, progress, engine)
            unfinished.close()
        except OSError as error:
            # From writing a shard: errors of a place or a picture are DataErrors.
            remedy = "make room and give the same command, which goes on after the last complete shard"
            raise packs.UnwritablePackError(place.scratch(), error, remedy) from error
        keep, index = index_of(search, *by_slot(order, unfinished.outcomes))
        index = replace(index, shards=Shards(each, [unfinished.position_of[slot] for slot in keep]))
        with as_store_error(place.where), partial_in(place.scratch()) as partial:
            write_index(partial, index)
            place.take(INDEX, partial)
        unfinished.remove_parts()
    return index
