"""Read tar archives, compressed or not, within limits, so that reading a hostile one stops early.

Python's own reader trusts the headers: a negative size makes it loop for ever (CVE-2025-8194), and long runs of
digits keep it busy for very long (CVE-2024-6232). Unpacking has limits, too (`unpacking.py`).
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from tunit.data.finding.unpacking import UnpackedFile, bzip2_stream, gzip_stream, xz_stream

MAX_MEMBERS = 500_000  # members of one archive; a longer list would fill the memory
# The most bytes of one member's headers; real ones have a kilobyte, or a megabyte with long names.
_MAX_HEADERS = 1 << 22
# An archive may unpack to _FREE bytes, or to _MAX_RATIO times its own size if this is more. (Packing hardly makes
# pictures smaller.)
_FREE, _MAX_RATIO = 1 << 31, 300
_DIGITS = re.compile(rb"[0-9]{64}")
_STREAMS = {b"\x1f\x8b": gzip_stream, b"BZh": bzip2_stream, b"\xfd7zXZ\0": xz_stream}


class TarBoundError(tarfile.TarError):
    """An archive exceeds a limit of reading."""


def tar_members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Every member's header, with the unpacked archive, in which the caller may seek forward to the member's data.

    Raises TarBoundError; tarfile.TarError and other errors if the archive is damaged.
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
                    # Tarfile takes a damaged header for the end of the archive.
                    if headers.block.strip(b"\0"):
                        raise tarfile.ReadError("a damaged header")
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
    """How many bytes an archive may unpack to in all."""
    return max(_FREE, _MAX_RATIO * path.stat().st_size)


def unpacked(path: Path) -> IO[bytes]:
    """The content of a tar file, opened with the decompressor for its first bytes."""
    file = path.open("rb")
    try:
        magic = file.read(6)
        file.seek(0)
        for start, stream in _STREAMS.items():
            if magic.startswith(start):
                return cast(IO[bytes], UnpackedFile(file, stream))
    except BaseException:
        file.close()
        raise
    return file


class _Headers:
    """A file for tarfile that refuses headers that are larger or stranger than those of real archives."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek
        self.left = _MAX_HEADERS
        self.block = b""  # the block that was read last

    def read(self, size: int = -1) -> bytes:
        """As a file's `read`. Raises tarfile.ReadError if a header, or all of them, would be too large."""
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        self.block = data if size == tarfile.BLOCKSIZE else self.block
        if size > tarfile.BLOCKSIZE and _DIGITS.search(data):
            raise tarfile.ReadError("a header with a number of more than 63 digits")
        return data


__all__ = ["MAX_MEMBERS", "TarBoundError", "most_unpacked", "tar_members", "unpacked"]
