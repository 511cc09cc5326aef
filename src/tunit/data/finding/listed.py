"""The pictures that a list or a table names: each path found on the disk, with a unique name."""

import os
from collections.abc import Iterator
from pathlib import Path

from tunit.data.decoding.decode import UNREADABLE
from tunit.data.finding.archives import DUPLICATE
from tunit.data.finding.folders import stamp_of_entry
from tunit.data.finding.found import DiskFile, Item, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.lists import Listing, SearchPath, read_list
from tunit.data.finding.naming import tidy
from tunit.data.finding.tables import read_picture_table
from tunit.errors import reason_of


def walk_list(
    source: Path, notes: list[str], *, table: bool, labels: str | None, pictures: str
) -> Iterator[Item]:
    """The pictures that a list, or with `table` a table, names; notes for the user are added to `notes`.

    labels, pictures: the columns of a table, as in `read_picture_table`.
    """
    search_path = SearchPath.of(source)
    if table:
        listing = read_picture_table(source, search_path, label_column=labels, picture_column=pictures)
    else:
        listing = read_list(source)
    notes += listing.notes
    yield from _walk_listing(source, search_path, listing)


def _walk_listing(source: Path, search_path: SearchPath, listing: Listing) -> Iterator[Item]:
    """The pictures that a list names. A list may name any file, because its owner wrote it.

    A row without a label takes that of another row with the same file, so that a label counts wherever it stands.
    """
    base = search_path.folders[0]
    seen: dict[str, tuple[Path, str | None]] = {}
    places = [search_path.find(row.path) if row.path else None for row in listing.rows]
    labels: dict[Path, str] = {}  # the first label of each file
    for row, found in zip(listing.rows, places, strict=True):
        if row.label is not None and row.path:
            labels.setdefault(_plain(found[0] if found else base / row.path), row.label)
    for row, found in zip(listing.rows, places, strict=True):
        if not row.path:
            name = f"line {row.line} of {source.name}"
            yield LeftOut(name, UNREADABLE, "it names no picture"), f"{name}\0{row.label}"
            continue
        path, spelling = found or (base / row.path, row.path)
        plain = _plain(path)
        name = plain.relative_to(base).as_posix() if plain.is_relative_to(base) else tidy(spelling)
        name = _free_name(name, plain, seen)
        stamp = f"{name}\0{row.label}"
        label = labels.get(plain) if row.label is None else row.label
        if name in seen:
            first = seen[name][1]
            clash = "" if first == label else f", first as {first!r} and then as {label!r}"
            yield LeftOut(name, DUPLICATE, f"listed twice{clash}"), stamp
            continue
        seen[name] = plain, label
        if found is None:
            yield LeftOut(name, UNREADABLE, search_path.why_not(row.path)), stamp
            continue
        try:
            yield PictureSource(name, label, DiskFile(path)), stamp + stamp_of_entry("", path.stat())
        except OSError as error:
            yield LeftOut(name, UNREADABLE, reason_of(error)), stamp


def _plain(path: Path) -> Path:
    """The path without `..`; for names only, because `..` behind a link may lead elsewhere."""
    return Path(os.path.normpath(path))


def _free_name(name: str, path: Path, seen: dict[str, tuple[Path, str | None]]) -> str:
    """`name`, with a number if another file outside the list's folder already has this name."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (the folder stays in the stem)
    number = 2
    while name in seen and seen[name][0] != path:
        name = f"{stem}~{number}{suffix}"
        number += 1
    return name
