"""Tar archives, compressed or not, walked within bounds: a hostile one ends early, it never goes on for ever.

Python's own reader believes what headers say: negative sizes lead it in circles (CVE-2025-8194), long runs of
digits keep it busy (CVE-2024-6232), and decompressors take the memory that a file asks for.
"""

import bz2
import gzip
import io
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

MAX_MEMBERS = 500_000  # of one archive; their list would fill the memory
_MAX_HEADERS = (
    1 << 22
)  # bytes of one member's headers; real ones are below a kilobyte, long names below a megabyte
_XZ_MEMORY = 1 << 27  # bytes that its decompressor may take; xz -9 asks for half of this
_FREE = 1 << 31  # bytes unpacked that may be of any ratio
_MAX_RATIO = 300  # of bytes unpacked to bytes packed beyond that; pictures, packed once, hardly shrink again
_DIGITS = re.compile(rb"[0-9]{64}")
_CHUNK = 1 << 16


class TarBoundError(tarfile.TarError):
    """An archive is beyond what is read of one."""


def tar_members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Every member's header, with the unpacked archive, in which the caller may seek forward to its data.

    Raises TarBoundError, or tarfile.TarError and others where the archive is damaged.
    """
    most = most_unpacked(path)
    with unpacked(path) as file:
        headers = _Headers(file)
        with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r:") as archive:
            place = -1
            for number in range(MAX_MEMBERS + 1):
                headers.left = _MAX_HEADERS
                info = archive.next()
                if info is None:
                    return
                after = int(cast(Any, archive).offset)  # where the next header begins
                if info.size < 0 or info.offset_data < 0 or after <= place:
                    raise tarfile.ReadError("a member of negative size")
                if number == MAX_MEMBERS:
                    raise TarBoundError(f"more than {MAX_MEMBERS:,} members: unpack it into a folder")
                place = after
                cast(Any, archive).members.clear()  # it would keep every header of a million members
                yield info, file
                if after > most:
                    raise TarBoundError(
                        f"it unpacks to more than {most:,} bytes, as a decompression bomb does"
                    )


def most_unpacked(path: Path) -> int:
    """The bytes that an archive may unpack to in all."""
    return max(_FREE, _MAX_RATIO * path.stat().st_size)


def unpacked(path: Path) -> IO[bytes]:
    """The content of a tar file, opened through the decompressor that its first bytes ask for."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(path, "rb"))
    if magic.startswith(b"\xfd7zXZ\0"):
        return cast(IO[bytes], io.BufferedReader(_XzFile(path)))
    return path.open("rb")


class _Headers:
    """A file for tarfile to walk, which refuses to read headers as large, or as odd, as no honest ones are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek
        self.left = _MAX_HEADERS

    def read(self, size: int = -1) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        if size > tarfile.BLOCKSIZE and _DIGITS.search(data):
            raise tarfile.ReadError("a header with a number of more than 63 digits")
        return data


class _XzFile(io.RawIOBase):
    """An .xz file to read and to seek in, whose decompressor takes no more memory than is allowed.

    lzma.open has no such limit, and a file may ask for a gigabyte and a half.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._place = 0
        self._decompressor: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _next(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. Streams may follow each other. Raises EOFError, LZMAError."""
        while size:
            fresh = b""
            if self._decompressor is None or self._decompressor.eof:
                rest = self._decompressor.unused_data if self._decompressor else b""
                fresh = (rest or self._file.read(_CHUNK)).lstrip(b"\0")  # zeros may pad a stream
                if not fresh:
                    return b""
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            elif self._decompressor.needs_input:
                fresh = self._file.read(_CHUNK)
                if not fresh:
                    raise EOFError("the compressed file ends early")
            if data := self._decompressor.decompress(fresh, size):
                return data
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._place if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < 0:
            raise io.UnsupportedOperation("seek from the end")
        if target < self._place:
            self._rewind()
        while self._place < target and (data := self._next(min(_CHUNK, target - self._place))):
            self._place += len(data)
        return self._place


__all__ = ["MAX_MEMBERS", "TarBoundError", "most_unpacked", "tar_members", "unpacked"]
