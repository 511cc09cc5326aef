"""Zip archives: read their list of members within limits, and a single member without that list."""

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from tunit.data.finding.unpacking import Inflater, Unpacking, bzip2_stream, lzma_stream

# The largest list of members, in bytes. Reading it takes twenty times as much memory.
_MAX_DIRECTORY = 1 << 25


class LongDirectoryError(zipfile.BadZipFile):
    """A list of members that would fill the memory."""


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive with its list of members. Raises LongDirectoryError, and zipfile's errors for damaged
    archives.
    """
    with _Bounded(path) as file, zipfile.ZipFile(cast(IO[bytes], file)) as archive:
        yield archive


def open_member(file: IO[bytes], position: int, method: int, packed: int) -> IO[bytes] | Unpacking:
    """The content of the member whose header is at `position` in an open archive, unpacked while it is read.

    packed: its bytes in the archive. The result can be used until the file is read at another position. Raises
    zipfile.BadZipFile, and NotImplementedError for a method that is not supported.
    """
    file.seek(position)
    magic, name, extra = struct.unpack("<4s22xHH", file.read(30))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile("a member is not at the place that the list gives")
    begin = file.seek(name + extra, io.SEEK_CUR)
    if method == zipfile.ZIP_STORED:
        return file
    if method == zipfile.ZIP_DEFLATED:
        return Unpacking(file, partial(Inflater, -15), begin, packed)
    if method == zipfile.ZIP_BZIP2:
        return Unpacking(file, bzip2_stream, begin, packed)
    if method == zipfile.ZIP_LZMA:
        (number,) = struct.unpack("<2xH", file.read(4))
        stream = partial(lzma_stream, file.read(number))
        return Unpacking(file, stream, begin + 4 + number, max(0, packed - 4 - number))
    names: dict[int, str] = vars(zipfile).get("compressor_names", {})
    raise NotImplementedError(f"packed by {names.get(method, f'method {method}')}, which is not supported")


class _Bounded(io.FileIO):
    """A file that cannot be read in pieces larger than the limit of a list of members."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def read(self, size: int | None = -1) -> bytes:
        """As a file's `read`. Raises LongDirectoryError for a piece that only an extremely long list needs."""
        if size is not None and size > _MAX_DIRECTORY:
            raise LongDirectoryError("it has too many members for one archive: unpack it into a folder")
        return cast(bytes, super().read(-1 if size is None else size))
