"""Find pictures in a folder, an archive, a database, a list of paths, a table, or a single file.

Nothing is decoded here: every picture gets a unique name, perhaps a label, and a way to its bytes. What
cannot be used is listed with its reason. All names are POSIX paths relative to the source, in the order of
their characters.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tunit.data.archives import DUPLICATE, archive_kind, list_archive
from tunit.data.class_folders import class_labels
from tunit.data.databases import DATA, is_database, list_database
from tunit.data.decode import READABLE, UNREADABLE
from tunit.data.folders import looks_like_picture_file, note_of_nested, stamp_of, walk_folder
from tunit.data.found import ByteSource, DiskFile, Found, PictureSource
from tunit.data.left_out import LeftOut, summarise_left_out
from tunit.data.lists import Listing, Places, read_list
from tunit.data.naming import ARCHIVE_SUFFIXES, PICTURE_SUFFIXES, suffix_of, tidy
from tunit.data.tables import TABLE_SUFFIXES, is_table, read_picture_table
from tunit.errors import DataError
from tunit.paths import home

LabelMode = Literal["none", "folders", "csv"]
LABEL_MODES = ("none", "folders", "csv")


def find_pictures(
    source: Path, *, labels: LabelMode = "none", label_column: str = "label", picture_column: str = ""
) -> Found:
    """Find the pictures of `source`: a folder, archive, database, list of paths, CSV table, or one picture.

    labels: "none"; "folders", as `class_labels` reads them; or "csv", the column
        `label_column` of a table, where an empty cell is no label.
    picture_column: of a table, by name or by number from 1; "" finds it.

    Raises DataError where the source does not exist, is of no known kind, or holds no picture.
    """
    if labels not in LABEL_MODES:
        raise DataError(f"labels {labels!r} is unknown: use one of {', '.join(LABEL_MODES)}")
    source = home(source)
    kind = kind_of(source)
    if labels == "csv" and kind != "table":
        raise DataError(f"{source} is a {kind} and has no label column: give a CSV file, or labels 'folders'")
    stamps: list[str] = [kind]
    pictures: list[PictureSource] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    for item, stamp in _walk(source, kind, label_column if labels == "csv" else None, picture_column, notes):
        stamps.append(stamp)
        if isinstance(item, LeftOut):
            left_out.append(item)
        else:
            pictures.append(item)
    if not pictures:
        raise DataError(_nothing_found(source, kind, left_out, notes))
    pictures.sort(key=lambda picture: picture.name)
    if labels == "folders":
        classes, remarks = class_labels([picture.name for picture in pictures])
        notes += remarks
        pictures = [replace(picture, label=label) for picture, label in zip(pictures, classes, strict=True)]
    left_out.sort(key=lambda item: (item.name, item.reason))
    return Found(pictures, left_out, quick_fingerprint(source) or _digest(stamps), tuple(notes))


def quick_fingerprint(source: Path) -> str | None:
    """The fingerprint of an archive, a database or a single picture, unopened; None for other kinds."""
    kind = kind_of(source)
    if kind not in ("zip", "tar", "picture", "database"):
        return None
    file = source / DATA if kind == "database" else source
    return _digest([kind, stamp_of(source.name, file.stat())])


def kind_of(source: Path) -> str:
    """What `source` is: folder, database, zip, tar, table, list or picture; lists by suffix, else by content."""
    if os.path.isdir(source):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
        return "database" if is_database(source) else "folder"
    if not os.path.isfile(source):  # noqa: PTH113
        state = "is not a regular file" if os.path.lexists(source) else "does not exist"
        raise DataError(f"{source} {state}: give a folder, an archive, a list or a picture")
    suffix = suffix_of(source.name)
    if suffix in TABLE_SUFFIXES:
        return "table"
    if suffix in (".txt", ".lst", ".list"):
        return "table" if is_table(source) else "list"
    try:
        if looks_like_picture_file(source):
            return "picture"
        kind = archive_kind(source)
        if kind is None and suffix in ARCHIVE_SUFFIXES:
            raise DataError(f"{source} is damaged or of another kind: give a zip or tar archive, or a folder")
        if kind is None and suffix not in PICTURE_SUFFIXES:
            kind = "table" if is_table(source) else "list"
        return kind or "picture"
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}): check its permissions") from None


def _walk(
    source: Path, kind: str, label_column: str | None, picture_column: str, notes: list[str]
) -> Iterator[tuple[PictureSource | LeftOut, str]]:
    """Every picture or left-out file, each with the stamp that its share of the fingerprint is made of.

    notes: notes for the user on how the source was read are added to it.
    """
    if kind == "folder":
        yield from walk_folder(source, notes)
    elif kind == "picture":
        yield PictureSource(source.name, None, DiskFile(source)), ""
    elif kind == "database":
        yield from ((PictureSource(name, None, record), "") for name, record in list_database(source))
    elif kind in ("zip", "tar"):
        nested = []
        for entry in list_archive(source, kind):
            if entry.is_archive:
                nested.append(entry.name)
            elif entry.member is None:
                yield LeftOut(entry.name, entry.reason, entry.detail), ""
            else:
                yield PictureSource(entry.name, None, entry.member), ""
        notes += note_of_nested(nested)
    else:
        places = Places.of(source)
        if kind == "table":
            listing = read_picture_table(
                source, places, label_column=label_column, picture_column=picture_column
            )
        else:
            listing = read_list(source)
        notes += listing.notes
        yield from _walk_listing(source, places, listing)


def _walk_listing(
    source: Path, places: Places, listing: Listing
) -> Iterator[tuple[PictureSource | LeftOut, str]]:
    """The pictures that a list names. A list may name any file, for its owner wrote it."""
    base = places.folders[0]
    seen: dict[str, tuple[Path, str | None]] = {}
    for row in listing.rows:
        if not row.path:
            name = f"line {row.line} of {source.name}"
            yield LeftOut(name, UNREADABLE, "it names no picture"), f"{name}\0{row.label}"
            continue
        found = places.find(row.path)
        path, spelling = found or (base / row.path, row.path)
        plain = Path(os.path.normpath(path))  # for the name only: `..` behind a link may lead elsewhere
        name = plain.relative_to(base).as_posix() if plain.is_relative_to(base) else tidy(spelling)
        name = _free_name(name, plain, seen)
        stamp = f"{name}\0{row.label}"
        if name in seen:
            first = seen[name][1]
            clash = "" if first == row.label else f", first as {first!r} and then as {row.label!r}"
            yield LeftOut(name, DUPLICATE, f"listed twice{clash}"), stamp
            continue
        seen[name] = plain, row.label
        if found is None:
            yield LeftOut(name, UNREADABLE, places.why_not(row.path)), stamp
            continue
        try:
            yield PictureSource(name, row.label, DiskFile(path)), stamp + stamp_of("", path.stat())
        except OSError as error:
            yield LeftOut(name, UNREADABLE, error.strerror or str(error)), stamp


def _free_name(name: str, path: Path, seen: dict[str, tuple[Path, str | None]]) -> str:
    """`name`, numbered where another file outside the list's folder has come to it before."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (the folder stays in the stem)
    number = 2
    while name in seen and seen[name][0] != path:
        name = f"{stem}~{number}{suffix}"
        number += 1
    return name


def _digest(stamps: list[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for stamp in sorted(stamps):
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _nothing_found(source: Path, kind: str, left_out: list[LeftOut], notes: list[str]) -> str:
    reasons = [*([summarise_left_out(left_out)] if left_out else []), *notes]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"the {kind} {source} holds no picture that can be used{why}: add {READABLE} files"


__all__ = [
    "LABEL_MODES",
    "ByteSource",
    "DiskFile",
    "Found",
    "LabelMode",
    "LeftOut",
    "PictureSource",
    "find_pictures",
    "kind_of",
    "quick_fingerprint",
]
