"""Read one member of an archive, within its declared size and within the size and time that a picture may take."""

import io
import lzma
import struct
import zlib
from time import thread_time
from typing import IO

from tunit.data.decoding.bounds import MAX_PIXELS, seconds_for, time_detail
from tunit.data.decoding.decode import BOMB, TOO_SLOW, TRUNCATED, UNREADABLE, PictureError
from tunit.data.finding.unpacking import OutOfTimeError

MAX_MEMBER = 1 << 29  # bytes; a larger member is refused, because a small archive may unpack to any size
_PIECE = 1 << 20  # bytes read at a time
# The errors that reading a damaged archive may raise, besides tarfile.TarError and zipfile.BadZipFile. Python's
# own modules raise the last ones, because they trust the fields of a header: an empty name, a missing key.
DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    RuntimeError,  # also its subclass NotImplementedError, for a way of packing that Python cannot read
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
)


def read_exactly(file: IO[bytes] | io.RawIOBase, size: int) -> bytes:
    """All `size` bytes, read piece by piece within the CPU time of a picture: unpacking them might take minutes.

    Raises PictureError: `truncated` or `too slow`.
    """
    data, began, seconds = io.BytesIO(), thread_time(), seconds_for(MAX_PIXELS)
    while (left := size - data.tell()) > 0:
        if thread_time() - began > seconds:
            raise PictureError(TOO_SLOW, time_detail(seconds, "unpacking"))
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise PictureError(TRUNCATED, f"{data.tell():,} of {size:,} bytes are in the archive")
        data.write(piece)
    return data.getvalue()


def refuse_bomb(size: int) -> None:
    """Raises PictureError for a member whose declared size is too large for a picture."""
    if size > MAX_MEMBER:
        raise PictureError(BOMB, f"{size:,} bytes unpacked, at most {MAX_MEMBER:,} allowed")


def damage_of(error: BaseException) -> PictureError:
    """The PictureError for an error that reading a damaged archive raised."""
    if isinstance(error, EOFError):
        return PictureError(TRUNCATED, "the archive ends within it")
    if isinstance(error, OutOfTimeError):
        return PictureError(TOO_SLOW, str(error))
    if isinstance(error, NotImplementedError):
        return PictureError(UNREADABLE, f"{error}: unpack the archive into a folder first")
    return PictureError(UNREADABLE, f"the archive is damaged there ({error})")


__all__ = ["DAMAGE", "MAX_MEMBER", "damage_of", "read_exactly", "refuse_bomb"]
