"""Find pictures in a folder, an archive, a database, a list of paths, a table, or a single file.

Nothing is decoded here: every picture gets a unique name, perhaps a label, and a way to its bytes. What
cannot be used is listed with its reason. All names are POSIX paths relative to the source, in the order of
their characters.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from tunit.data.archives import DUPLICATE, MAX_BYTES, OUTSIDE, archive_kind, list_archive
from tunit.data.databases import DATA, is_database, list_database
from tunit.data.decode import READABLE, UNREADABLE, PictureError, looks_like_picture
from tunit.data.left_out import LeftOut, summarise_left_out
from tunit.data.lists import Listing, Places, read_list
from tunit.data.naming import ARCHIVE_SUFFIXES, OTHER_SUFFIXES, PICTURE_SUFFIXES, is_hidden, suffix_of, tidy
from tunit.data.tables import TABLE_SUFFIXES, is_table, read_table
from tunit.errors import DataError
from tunit.paths import home

LabelMode = Literal["none", "folders", "csv"]
LABEL_MODES = ("none", "folders", "csv")
TOO_LARGE = "too large"


class Bytes(Protocol):
    """Where a picture's bytes are: a file or a member of an archive. Picklable."""

    @property
    def position(self) -> int:
        """Reading in ascending order of it is fastest."""

    def read(self) -> bytes:
        """All bytes. Raises PictureError."""


@dataclass(frozen=True)
class DiskFile:
    """A file of its own."""

    path: Path
    position: int = 0

    def read(self) -> bytes:
        """All bytes. Raises PictureError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PictureError(UNREADABLE, error.strerror or str(error)) from None
        if len(data) > MAX_BYTES:
            raise PictureError(TOO_LARGE, f"more than {MAX_BYTES:,} bytes")
        return data


@dataclass(frozen=True)
class PictureSource:
    """One picture that was found but not yet opened."""

    name: str  # POSIX path relative to the root, unique
    label: str | None
    content: Bytes

    def read(self) -> bytes:
        """The whole file. Raises PictureError where it cannot be read."""
        return self.content.read()


@dataclass(frozen=True)
class Found:
    """All pictures of a source by name, what was left out, and a digest that changes when the source does."""

    pictures: list[PictureSource]
    left_out: list[LeftOut]
    fingerprint: str
    notes: tuple[str, ...] = ()  # of how the source was read, where that is not obvious


def find_pictures(
    source: Path, *, labels: LabelMode = "none", label_column: str = "label", picture_column: str = ""
) -> Found:
    """Find the pictures of `source`: a folder, archive, database, list of paths, CSV table, or one picture.

    labels: "none"; "folders", the name of the folder that holds the picture, none in the root itself; or
        "csv", the column `label_column` of a table, where an empty cell is no label.
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
            label = _folder_label(item.name) if labels == "folders" else item.label
            pictures.append(PictureSource(item.name, label, item.content))
    if not pictures:
        raise DataError(_nothing_found(source, kind, left_out))
    pictures.sort(key=lambda picture: picture.name)
    left_out.sort(key=lambda item: (item.name, item.reason))
    return Found(pictures, left_out, quick_fingerprint(source) or _digest(stamps), tuple(notes))


def quick_fingerprint(source: Path) -> str | None:
    """The fingerprint of an archive, a database or a single picture, unopened; None for other kinds."""
    kind = kind_of(source)
    if kind not in ("zip", "tar", "picture", "database"):
        return None
    file = source / DATA if kind == "database" else source
    return _digest([kind, _stamp(source.name, file.stat())])


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
        if _looks_like_picture_file(source):
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

    notes: gets what the owner should hear of how the source was read.
    """
    if kind == "folder":
        yield from _walk_folder(source)
    elif kind == "picture":
        yield PictureSource(source.name, None, DiskFile(source)), ""
    elif kind == "database":
        yield from ((PictureSource(name, None, record), "") for name, record in list_database(source))
    elif kind in ("zip", "tar"):
        for entry in list_archive(source, kind):
            if entry.member is None:
                yield LeftOut(entry.name, entry.reason, entry.detail), ""
            else:
                yield PictureSource(entry.name, None, entry.member), ""
    else:
        places = Places.of(source)
        if kind == "table":
            listing = read_table(source, places, label_column=label_column, picture_column=picture_column)
        else:
            listing = read_list(source)
        notes += listing.notes
        yield from _walk_listing(source, places, listing)


def _walk_folder(root: Path) -> Iterator[tuple[PictureSource | LeftOut, str]]:
    """The pictures below `root`.

    Links to folders are not followed: inside the root they lead to what is found anyway, perhaps in circles.
    """
    real_root = Path(os.path.realpath(root))
    folders = [(str(root), "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            detail = f"the folder cannot be listed ({error.strerror})"
            yield LeftOut(prefix or ".", UNREADABLE, detail), f"{prefix}\0unlisted"
            continue
        for entry in entries:
            name = prefix + entry.name
            if is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, f"{name}/"))
                continue
            problem = _link_problem(entry, real_root) if entry.is_symlink() else None
            if problem is not None:
                yield LeftOut(name, *problem), f"{name}\0{problem[0]}"
            elif (item := _file_in_folder(entry, name)) is not None:
                yield item


def _link_problem(entry: os.DirEntry[str], real_root: Path) -> tuple[str, str] | None:
    """Reason and detail where a link is worth a report; None where it is fine or of no interest."""
    is_picture = suffix_of(entry.name) in PICTURE_SUFFIXES
    try:
        target = Path(os.path.realpath(entry.path, strict=True))
    except OSError:
        return (UNREADABLE, "a link that leads nowhere") if is_picture else None
    if not target.is_relative_to(real_root) and (is_picture or target.is_dir()):
        return OUTSIDE, "a link out of the folder: copy what it leads to, or name it in a list"
    return None


def _file_in_folder(entry: os.DirEntry[str], name: str) -> tuple[PictureSource | LeftOut, str] | None:
    """The picture (or trouble) that a file is; None for what is no picture by its suffix or its content."""
    suffix = suffix_of(name)
    if suffix in OTHER_SUFFIXES:
        return None
    path = Path(entry.path)
    try:
        if not entry.is_file():
            named = suffix in PICTURE_SUFFIXES and not entry.is_dir()
            problem = LeftOut(name, UNREADABLE, "neither a file nor a folder")
            return (problem, f"{name}\0special") if named else None
        if suffix not in PICTURE_SUFFIXES and not _looks_like_picture_file(path):
            return None
        return PictureSource(name, None, DiskFile(path)), _stamp(name, entry.stat())
    except OSError as error:
        return LeftOut(name, UNREADABLE, error.strerror or str(error)), f"{name}\0unreadable"


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
            yield PictureSource(name, row.label, DiskFile(path)), stamp + _stamp("", path.stat())
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


def _looks_like_picture_file(path: Path) -> bool:
    with path.open("rb") as file:
        return looks_like_picture(file.read(16))


def _folder_label(name: str) -> str | None:
    return PurePosixPath(name).parent.name or None


def _stamp(name: str, status: os.stat_result) -> str:
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def _digest(stamps: list[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for stamp in sorted(stamps):
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _nothing_found(source: Path, kind: str, left_out: list[LeftOut]) -> str:
    why = f" ({summarise_left_out(left_out)})" if left_out else ""
    return f"the {kind} {source} holds no picture that can be used{why}: add {READABLE} files"


__all__ = [
    "LABEL_MODES",
    "Found",
    "LabelMode",
    "LeftOut",
    "PictureSource",
    "find_pictures",
    "kind_of",
    "quick_fingerprint",
]
