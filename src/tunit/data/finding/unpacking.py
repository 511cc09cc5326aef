"""Unpack bytes while they are read, within limits of memory and CPU time, for archives and members of zips.

Python's own readers have no such limits: with bzip2, zipfile unpacks four kilobytes to gigabytes in one call; gzip
reads millions of empty streams in one call; lzma takes as much memory as a file requests; and a seek unpacks
everything before its target.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from time import thread_time
from typing import IO, Any, Protocol, cast

from tunit.data.decoding.bounds import seconds_to_unpack, time_detail

MAX_DICTIONARY = 1 << 27  # bytes of memory for unpacking LZMA; xz -9 needs half of this
_CHUNK = 1 << 16  # packed bytes read at a time


class OutOfTimeError(RuntimeError):
    """Unpacking takes far more CPU time than an ordinary file of this size needs."""


class Decompressor(Protocol):
    """The interface of bz2's and lzma's decompressors, of one stream."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether it needs more packed bytes to continue."""

    @property
    def unused_data(self) -> bytes:
        """The bytes that were given after the end of the stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most `max_length` unpacked bytes, perhaps none yet."""


class Inflater:
    """zlib's decompressor, with the interface of the others. wbits: 31 for gzip, -15 for bare deflate."""

    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)
        self._perhaps_more = False  # zlib may hold output for which the last call had no room

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """Whether it needs more packed bytes to continue."""
        return not (self._perhaps_more or self._stream.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        """The bytes that were given after the end of the stream."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most `max_length` unpacked bytes, perhaps none yet; -1: all."""
        found = self._stream.decompress(self._stream.unconsumed_tail + data, max(0, max_length))
        self._perhaps_more = len(found) == max_length
        return found


def gzip_stream() -> Decompressor:
    """A decompressor for a stream of gzip."""
    return Inflater(31)


def bzip2_stream() -> Decompressor:
    """A decompressor for a stream of bzip2."""
    return bz2.BZ2Decompressor()


def xz_stream() -> Decompressor:
    """A decompressor for a stream of xz."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY)


def lzma_stream(properties: bytes) -> Decompressor:
    """A decompressor for LZMA without a container. properties: the five bytes that say how it was packed."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_DICTIONARY)
    stream.decompress(properties + b"\xff" * 8, 0)  # of unknown length
    return stream


class Unpacking(io.RawIOBase):
    """A file for reading and seeking: the bytes of `packed` from `begin` on, unpacked stream after stream.

    new: makes a decompressor for a stream. length: the number of packed bytes, if they end before the file does.
    Reading and seeking raise OutOfTimeError, EOFError if the data ends early, and the decompressor's errors for
    damaged data. After an error the position is unknown, so each later call raises the same error again.
    """

    def __init__(
        self, packed: IO[bytes], new: Callable[[], Decompressor], begin: int = 0, length: int | None = None
    ) -> None:
        self._packed, self._new, self._begin, self._length = packed, new, begin, length
        self._taken = 0  # packed bytes read so far; those that are read again after going back count again
        self._spent = 0.0  # seconds of CPU time
        self._failure: tuple[type[Exception], tuple[Any, ...]] | None = None
        self._rewind()

    def _rewind(self) -> None:
        self._packed.seek(self._begin)
        self._left = self._length
        self._place = 0
        self._stream: Decompressor | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in the unpacked bytes."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, perhaps in part; gives the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Unpack up to a position, or to the end if that comes first; going back starts again at the beginning."""
        target = offset + (self._place if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < 0:
            raise io.UnsupportedOperation("seek from the end")
        if target < self._place:
            self._rewind()
        while self._place < target and self._next(min(_CHUNK, target - self._place)):
            pass
        return self._place

    def _next(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end."""
        if self._failure:
            kind, args = self._failure
            raise kind(*args)
        began = thread_time()
        try:
            while size:
                seconds = seconds_to_unpack(self._taken)
                if self._spent + thread_time() - began > seconds:
                    raise OutOfTimeError(time_detail(seconds, "unpacking"))
                if (fresh := self._input()) is None:
                    return b""
                if data := cast(Decompressor, self._stream).decompress(fresh, size):
                    self._place += len(data)
                    return data
            return b""
        except Exception as error:
            # Do not keep the error itself: its traceback would keep the data in memory.
            self._failure = type(error), error.args
            raise
        finally:
            self._spent += thread_time() - began

    def _input(self) -> bytes | None:
        """The packed bytes that the present stream needs next; None if no stream follows."""
        if self._stream is None or self._stream.eof:
            rest = self._stream and self._stream.unused_data
            fresh = rest or self._read()
            if self._stream:
                fresh = fresh.lstrip(b"\0")  # zeros may pad a stream
            if not fresh:
                return None
            self._stream = self._new()
            return fresh
        if not self._stream.needs_input:
            return b""
        if fresh := self._read():
            return fresh
        raise EOFError("the compressed data ends early")

    def _read(self) -> bytes:
        data = self._packed.read(_CHUNK if self._left is None else min(_CHUNK, self._left))
        self._taken += len(data)
        if self._left is not None:
            self._left -= len(data)
        return data


class UnpackedFile(io.BufferedReader):
    """An unpacked view of a packed file; closing it also closes that file."""

    def __init__(self, packed: IO[bytes], new: Callable[[], Decompressor]) -> None:
        self._packed = packed
        super().__init__(Unpacking(packed, new), _CHUNK)

    def close(self) -> None:
        """Close it, and the packed file."""
        self._packed.close()
        super().close()


__all__ = [
    "MAX_DICTIONARY",
    "Decompressor",
    "Inflater",
    "OutOfTimeError",
    "UnpackedFile",
    "Unpacking",
    "bzip2_stream",
    "gzip_stream",
    "lzma_stream",
    "xz_stream",
]
