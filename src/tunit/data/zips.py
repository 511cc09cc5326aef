"""Zip archives: their list of members within bounds, and a member read without that list."""

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

_MAX_DIRECTORY = (
    1 << 25
)  # bytes of the list of members, which takes twenty times as much memory when it is read


class LongDirectoryError(zipfile.BadZipFile):
    """A list of members that would fill the memory."""


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive with its list of members. Raises LongDirectoryError, or what zipfile raises of damaged ones."""
    with _Bounded(path) as file, zipfile.ZipFile(cast(IO[bytes], file)) as archive:
        yield archive


@contextlib.contextmanager
def open_member(file: IO[bytes], position: int, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """The member of an open archive whose header is at `position`; info: its sizes, method and CRC."""
    file.seek(position)
    magic, name, extra = struct.unpack("<4s22xHH", file.read(30))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile("no member begins where the list says")
    file.seek(name + extra, io.SEEK_CUR)
    with zipfile.ZipExtFile(file, "r", info) as member:
        yield cast(IO[bytes], member)


class _Bounded(io.FileIO):
    """A file that is not read in pieces larger than a list of members may be."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:
            raise LongDirectoryError(
                "it has more members than are read of one archive: unpack it into a folder"
            )
        return cast(bytes, super().read(-1 if size is None else size))
