"""Pictures inside zip and tar archives, read in place: nothing is ever extracted to disk.

A member is read through its declared size and never beyond it, so that an archive cannot fill the memory.
"""

import atexit
import io
import lzma
import os
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tunit.data.decode import BOMB, TRUNCATED, UNREADABLE, PictureError, looks_like_picture
from tunit.data.naming import (
    OTHER_SUFFIXES,
    PICTURE_SUFFIXES,
    is_hidden,
    is_outside,
    names_archive,
    suffix_of,
    tidy,
)
from tunit.data.tars import TarBoundError, tar_members, unpacked
from tunit.data.zips import LongDirectoryError, open_member, open_zip
from tunit.errors import DataError

MAX_BYTES = 1 << 30  # of one picture's file; beyond it no decoder is tried
OUTSIDE, ENCRYPTED, DUPLICATE = "outside", "encrypted", "duplicate"
_MAX_TEXT = 1 << 26  # bytes of a list inside an archive
MAX_MEMBER = 1 << 29  # of one member: a small archive may unpack to any size
_PIECE = 1 << 20  # bytes read at a time
# What damaged archives raise on the way, beside tarfile.TarError and zipfile.BadZipFile.
_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One member of a zip archive, with all that reading it takes: not the archive's list of members."""

    archive: Path
    size: int  # bytes, declared
    position: int  # of its header in the archive: the order in which reading is fastest
    packed: int  # bytes in the archive
    method: int  # of compression, as zipfile numbers them
    crc: int

    def read(self) -> bytes:
        """The member's bytes."""
        _refuse_bomb(self.size)
        info = zipfile.ZipInfo()
        info.compress_type, info.compress_size, info.file_size = self.method, self.packed, self.size
        info.CRC = self.crc
        with _lock:
            try:
                file = _opened(self.archive, "zip")
                with open_member(file, self.position, info) as member:
                    return _exactly(member, self.size)
            except (zipfile.BadZipFile, *_DAMAGE) as error:
                raise _damage(error) from None


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of a tar archive, compressed or not."""

    archive: Path
    size: int  # bytes, declared
    position: int  # of its data in the unpacked archive: a compressed one is best read in this order

    def read(self) -> bytes:
        """The member's bytes."""
        _refuse_bomb(self.size)
        with _lock:
            try:
                file = _opened(self.archive, "tar")
                file.seek(self.position)
                return _exactly(file, self.size)
            except _DAMAGE as error:
                raise _damage(error) from None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the list of an archive's members says of one picture: where it is, or why it is left out."""

    name: str
    member: ZipMember | TarMember | None
    reason: str = ""
    detail: str = ""
    is_archive: bool = False  # itself, inside this one, and so not read


def archive_kind(path: Path) -> str | None:
    """ "zip", "tar" or None, by content."""
    with path.open("rb") as start:
        if start.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            return "zip"
    try:
        with unpacked(path) as file:
            block = file.read(512)
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, *_DAMAGE):
        return None
    return "tar"


def list_archive(path: Path, kind: str) -> list[Entry]:
    """All pictures of an archive, left-out ones included, in the order of the archive.

    Of members with one and the same name the last stands, as it would after extraction.
    """
    entries = list(_list_zip(path) if kind == "zip" else _list_tar(path))
    last = {entry.name: index for index, entry in enumerate(entries) if entry.member}
    again = "the archive holds a later member of the same name"
    return [
        entry
        if entry.member is None or last[entry.name] == index
        else Entry(entry.name, None, DUPLICATE, again)
        for index, entry in enumerate(entries)
    ]


def read_member(path: Path, kind: str, name: str) -> bytes | None:
    """The bytes of the file `name` in an archive, such as a list that a publisher packs with the pictures.

    None where there is none, or it is damaged, or larger than such a list is.
    """
    try:
        if kind == "zip":
            with open_zip(path) as archive:
                for info in archive.infolist():
                    if _is_named(info.filename, name) and info.file_size <= _MAX_TEXT:
                        with archive.open(info) as file:
                            return _exactly(file, info.file_size)
            return None
        for member, tar in tar_members(path):
            if member.isreg() and _is_named(member.name, name) and member.size <= _MAX_TEXT:
                tar.seek(member.offset_data)
                return _exactly(tar, member.size)
    except (tarfile.TarError, zipfile.BadZipFile, PictureError, *_DAMAGE):
        return None
    return None


def _is_named(raw: str, name: str) -> bool:
    return not is_outside(raw) and tidy(raw) == name


def close_archives() -> None:
    """Close the archive that reading has kept open."""
    with _lock:
        for file in _open_files.values():
            file.close()
        _open_files.clear()


def _list_zip(path: Path) -> Iterator[Entry]:
    try:
        with open_zip(path) as archive:
            yield from _zip_entries(path, archive)
    except LongDirectoryError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise DataError(f"{path} is damaged ({error}): fetch or pack the archive anew") from None


def _zip_entries(path: Path, archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        if info.is_dir() or suffix_of(info.filename) in OTHER_SUFFIXES:
            yield from () if info.is_dir() else _nested(info.filename)
            continue
        packed = info.compress_size, info.compress_type, info.CRC
        member = ZipMember(path, info.file_size, info.header_offset, *packed)
        encrypted = bool(info.flag_bits & 0x1)
        link = stat.S_ISLNK(info.external_attr >> 16)
        entry = _judge(info.filename, member, link=link, encrypted=encrypted)
        if entry is None:
            continue
        if entry.member and suffix_of(entry.name) not in PICTURE_SUFFIXES:
            try:
                with archive.open(info) as file:
                    head = file.read(16)
            except (zipfile.BadZipFile, *_DAMAGE):
                continue  # of no known kind and unreadable: not taken for a picture
            if not looks_like_picture(head):
                continue
        yield entry


def _list_tar(path: Path) -> Iterator[Entry]:
    last = "its start"
    try:
        for info, file in tar_members(path):
            last = info.name
            link = info.issym() or info.islnk()
            if not (info.isreg() or link) or suffix_of(info.name) in OTHER_SUFFIXES:
                yield from _nested(info.name) if info.isreg() else ()
                continue
            entry = _judge(info.name, TarMember(path, info.size, info.offset_data), link=link)
            if entry is None:
                continue
            if info.issparse():
                entry = Entry(entry.name, None, UNREADABLE, "stored as a sparse file")
            if entry.member and suffix_of(entry.name) not in PICTURE_SUFFIXES:
                file.seek(info.offset_data)
                if not looks_like_picture(file.read(min(16, info.size))):
                    continue
            yield entry
    except (tarfile.TarError, *_DAMAGE) as error:
        reason = BOMB if isinstance(error, TarBoundError) else TRUNCATED
        yield Entry(path.name, None, reason, f"the archive cannot be read beyond {last} ({error})")


def _nested(raw: str) -> Iterator[Entry]:
    """A member that is an archive by its name, to be told of; nothing for any other."""
    name = tidy(raw)
    if names_archive(name) and not is_outside(raw) and not any(map(is_hidden, name.split("/"))):
        yield Entry(name, None, is_archive=True)


def _judge(
    raw: str, member: ZipMember | TarMember, *, link: bool = False, encrypted: bool = False
) -> Entry | None:
    """The entry for a member by its header alone; None where it is hidden and of no interest."""
    name = tidy(raw)
    if is_outside(raw):
        return Entry(raw, None, OUTSIDE, "its name points out of the archive")
    if not name or any(map(is_hidden, name.split("/"))):
        return None
    if link:
        return Entry(name, None, OUTSIDE, "a link, which archives may not hold")
    if encrypted:
        detail = "protected by a password: unpack it into a folder first"
        return Entry(name, None, ENCRYPTED, detail) if suffix_of(name) in PICTURE_SUFFIXES else None
    if member.size > MAX_MEMBER:
        return Entry(name, None, BOMB, f"{member.size:,} bytes unpacked, at most {MAX_MEMBER:,} allowed")
    return Entry(name, member)


# One archive stays open between two reads, per process:
# going back in a compressed tar means unpacking it from the start.
_lock = threading.RLock()
_open_files: dict[tuple[object, ...], IO[bytes]] = {}
atexit.register(close_archives)


def _opened(path: Path, kind: str) -> IO[bytes]:
    status = path.stat()
    # With the process, for a forked one would share the position in the file with its parent.
    key = (os.getpid(), path, status.st_size, status.st_mtime_ns)
    if key not in _open_files:
        close_archives()
        _open_files[key] = path.open("rb") if kind == "zip" else unpacked(path)
    return _open_files[key]


def _exactly(file: IO[bytes], size: int) -> bytes:
    """All `size` bytes, read piece by piece: asked for at once, some readers copy what they have again and again."""
    data = io.BytesIO()
    while (left := size - data.tell()) > 0:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise PictureError(TRUNCATED, f"{data.tell():,} of {size:,} bytes are in the archive")
        data.write(piece)
    return data.getvalue()


def _refuse_bomb(size: int) -> None:
    if size > MAX_MEMBER:
        raise PictureError(BOMB, f"{size:,} bytes unpacked, at most {MAX_MEMBER:,} allowed")


def _damage(error: BaseException) -> PictureError:
    if isinstance(error, EOFError):
        return PictureError(TRUNCATED, "the archive ends within it")
    return PictureError(UNREADABLE, f"the archive is damaged there ({error})")


__all__ = [
    "Entry",
    "TarMember",
    "ZipMember",
    "archive_kind",
    "close_archives",
    "list_archive",
    "read_member",
]
