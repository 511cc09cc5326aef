"""Pictures inside zip and tar archives, read in place: nothing is ever extracted to disk.

A member is read up to its declared size and never beyond it, so that an archive cannot fill the memory.
"""

import atexit
import os
import stat
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import IO
from zlib import crc32

from tunit.data.decoding.bounds import seconds_to_unpack, time_detail
from tunit.data.decoding.decode import BOMB, TOO_SLOW, TRUNCATED, UNREADABLE, PictureError, looks_like_picture
from tunit.data.finding.members import DAMAGE, MAX_MEMBER, damage_of, read_exactly, refuse_bomb
from tunit.data.finding.naming import (
    OTHER_SUFFIXES,
    PICTURE_SUFFIXES,
    archive_stem,
    is_hidden,
    is_outside,
    suffix_of,
    tidy,
)
from tunit.data.finding.tars import TarBoundError, most_unpacked, tar_members, unpacked
from tunit.data.finding.unpacking import OutOfTimeError
from tunit.data.finding.zips import LongDirectoryError, open_member, open_zip
from tunit.errors import DataError

MAX_BYTES = 1 << 30  # the largest file of a picture; larger files are not decoded
OUTSIDE, ENCRYPTED, DUPLICATE = "outside", "encrypted", "duplicate"
_MOST_ALIKE = 16  # how many members of a zip may share their data; some packers store equal files only once
_MAX_TEXT = 1 << 26  # bytes of a list inside an archive


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One member of a zip archive, with everything needed to read it without the archive's list of members."""

    archive: Path
    size: int  # bytes, declared
    position: int  # of its header in the archive; members are read fastest in this order
    packed: int  # bytes in the archive
    method: int  # of compression, by zipfile's numbers
    crc: int

    def read(self) -> bytes:
        """The member's bytes."""
        refuse_bomb(self.size)
        with _lock:
            try:
                file = _opened(self.archive, "zip")
                data = read_exactly(open_member(file, self.position, self.method, self.packed), self.size)
                if (self.method == zipfile.ZIP_STORED and self.packed != self.size) or crc32(
                    data
                ) != self.crc:
                    raise zipfile.BadZipFile("its checksum or its size differs")
            except (zipfile.BadZipFile, *DAMAGE) as error:
                raise damage_of(error) from None
        return data

    def head(self) -> bytes:
        """Its first 16 bytes; b"" if they cannot be read."""
        with _lock:
            try:
                file = _opened(self.archive, "zip")
                return open_member(file, self.position, self.method, self.packed).read(16) or b""
            except (zipfile.BadZipFile, *DAMAGE):
                return b""  # unreadable and of no known kind, so not a picture


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of a tar archive, compressed or not."""

    archive: Path
    size: int  # bytes, declared
    position: int  # of its data in the unpacked archive; a compressed archive is read fastest in this order

    def read(self) -> bytes:
        """The member's bytes."""
        refuse_bomb(self.size)
        with _lock:
            try:
                file = _opened(self.archive, "tar")
                file.seek(self.position)
                return read_exactly(file, self.size)
            except DAMAGE as error:
                raise damage_of(error) from None


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture in an archive's list of members: how to read it, or why it is left out."""

    name: str
    member: ZipMember | TarMember | None
    reason: str = ""
    detail: str = ""
    is_archive: bool = False  # an archive inside this one, which is not read


def archive_kind(path: Path) -> str | None:
    """ "zip", "tar" or None, by content."""
    with path.open("rb") as start:
        if start.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            return "zip"
    try:
        with unpacked(path) as file:
            block = file.read(512)
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, *DAMAGE):
        return None
    return "tar"


def list_archive(path: Path, kind: str) -> list[Entry]:
    """All pictures of an archive, including those left out, in the order of the archive.

    Of several members with the same name the last one counts, as it would after extraction.
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

    None if there is none, or it is damaged, or too large for a list.
    """
    try:
        if kind == "zip":
            with open_zip(path) as archive:
                for info in archive.infolist():
                    if _is_named(info.filename, name) and info.file_size <= _MAX_TEXT:
                        return _zip_member(path, info).read()
            return None
        for member, tar in tar_members(path):
            if member.isreg() and _is_named(member.name, name) and member.size <= _MAX_TEXT:
                tar.seek(member.offset_data)
                return read_exactly(tar, member.size)
    except (tarfile.TarError, zipfile.BadZipFile, PictureError, *DAMAGE):
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
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise DataError(f"{path} is damaged ({error}): download or pack the archive again") from None


def _zip_entries(path: Path, archive: zipfile.ZipFile) -> Iterator[Entry]:
    left = most_unpacked(path)  # members may share their bytes; then a megabyte could unpack to petabytes
    seconds, spent = seconds_to_unpack(path.stat().st_size), 0.0
    places: Counter[int] = Counter()
    for info in archive.infolist():
        left -= info.file_size if info.file_size <= MAX_MEMBER else 0
        is_folder = info.filename.endswith("/")  # ZipInfo.is_dir of Python 3.11 fails for an empty name
        if is_folder or suffix_of(info.filename) in OTHER_SUFFIXES:
            yield from () if is_folder else _nested(info.filename)
            continue
        member = _zip_member(path, info)
        link = stat.S_ISLNK(info.external_attr >> 16)
        entry = _judge(info.filename, member, link=link, encrypted=bool(info.flag_bits & 0x1))
        if entry is None:
            continue
        places[member.position] += 1
        if entry.member and places[member.position] > _MOST_ALIKE:
            detail = f"more than {_MOST_ALIKE} members share the same bytes, as in a decompression bomb"
            entry = Entry(entry.name, None, BOMB, detail)
        if entry.member and left < 0:
            detail = f"the archive unpacks to more than {most_unpacked(path):,} bytes, as a decompression bomb does"
            entry = Entry(entry.name, None, BOMB, detail)
        if entry.member and suffix_of(entry.name) not in PICTURE_SUFFIXES:
            began = thread_time()
            head = member.head()
            spent += thread_time() - began
            if spent > seconds:
                detail = f"the archive is not read after {entry.name}: {time_detail(seconds, 'unpacking')}"
                yield Entry(path.name, None, TOO_SLOW, detail)
                return
            if not looks_like_picture(head):
                continue
        yield entry


def _zip_member(path: Path, info: zipfile.ZipInfo) -> ZipMember:
    packed = info.compress_size, info.compress_type, info.CRC
    return ZipMember(path, info.file_size, info.header_offset, *packed)


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
            if suffix_of(entry.name) not in PICTURE_SUFFIXES:
                file.seek(info.offset_data)
                if not entry.member or not looks_like_picture(file.read(min(16, info.size))):
                    continue
            yield entry
    except (tarfile.TarError, *DAMAGE) as error:
        slow = TOO_SLOW if isinstance(error, OutOfTimeError) else TRUNCATED
        reason = BOMB if isinstance(error, TarBoundError) else slow
        yield Entry(path.name, None, reason, f"the archive cannot be read after {last} ({error})")


def _nested(raw: str) -> Iterator[Entry]:
    """An entry for a member whose name is that of an archive, so that it can be reported; nothing for any other."""
    name = tidy(raw)
    if archive_stem(name) and not is_outside(raw) and not any(map(is_hidden, name.split("/"))):
        yield Entry(name, None, is_archive=True)


def _judge(
    raw: str, member: ZipMember | TarMember, *, link: bool = False, encrypted: bool = False
) -> Entry | None:
    """The entry for a member, judged only by its header; None if it is hidden or not a picture."""
    name = tidy(raw)
    if is_outside(raw):
        return Entry(raw, None, OUTSIDE, "its name points out of the archive")
    if not name or any(map(is_hidden, name.split("/"))):
        return None
    if (link or encrypted or member.size > MAX_MEMBER) and suffix_of(name) not in PICTURE_SUFFIXES:
        return None  # nothing says that it is a picture: it may be a link called README
    if link:
        return Entry(name, None, OUTSIDE, "a link, which archives may not hold")
    if encrypted:
        return Entry(name, None, ENCRYPTED, "protected by a password: unpack it into a folder first")
    if member.size > MAX_MEMBER:
        return Entry(name, None, BOMB, f"{member.size:,} bytes unpacked, at most {MAX_MEMBER:,} allowed")
    return Entry(name, member)


# Each process keeps the last archive open between reads, because going back in a compressed tar means unpacking it
# from the start.
_lock = threading.RLock()
_open_files: dict[tuple[object, ...], IO[bytes]] = {}
atexit.register(close_archives)


def _opened(path: Path, kind: str) -> IO[bytes]:
    status = path.stat()
    # The key includes the process, because a forked process would share the position in the file with its parent.
    key = (os.getpid(), path, status.st_size, status.st_mtime_ns)
    if key not in _open_files:
        close_archives()
        _open_files[key] = path.open("rb") if kind == "zip" else unpacked(path)
    return _open_files[key]


__all__ = [
    "Entry",
    "TarMember",
    "ZipMember",
    "archive_kind",
    "close_archives",
    "list_archive",
    "read_member",
]
