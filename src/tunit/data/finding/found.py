"""Pictures that were found and not yet opened: their names and labels, and how to read their bytes. Picklable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunit.data.decoding.decode import TOO_LARGE, UNREADABLE, PictureError
from tunit.data.finding.archives import MAX_BYTES
from tunit.data.finding.left_out import LeftOut
from tunit.errors import reason_of


class ByteSource(Protocol):
    """A way to read the bytes of a picture: from a file, or from a member of an archive or database.

    Picklable, because it is sent to the process that decodes the picture. That process imports the module of its
    class, which therefore must not import PyTorch: this takes seconds, and more memory than a picture may take.
    """

    @property
    def position(self) -> int:
        """Pictures are read fastest in ascending order of their positions."""

    def read(self) -> bytes:
        """All bytes. Raises PictureError."""


@dataclass(frozen=True)
class DiskFile:
    """A single file."""

    path: Path
    position: int = 0

    def read(self) -> bytes:
        """All bytes. Raises PictureError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PictureError(UNREADABLE, reason_of(error)) from None
        if len(data) > MAX_BYTES:
            raise PictureError(TOO_LARGE, f"more than {MAX_BYTES:,} bytes")
        return data


@dataclass(frozen=True)
class GivenBytes:
    """Bytes that are in memory already, such as those of an upload."""

    data: bytes
    position: int = 0

    def read(self) -> bytes:
        """All bytes."""
        return self.data


@dataclass(frozen=True)
class PictureSource:
    """One picture that was found but not yet opened."""

    name: str  # POSIX path relative to the root, unique
    label: str | None
    content: ByteSource

    def read(self) -> bytes:
        """The whole file. Raises PictureError if it cannot be read."""
        return self.content.read()


# A picture or an unusable file, with its stamp: its part of the source's fingerprint.
Item = tuple[PictureSource | LeftOut, str]


@dataclass(frozen=True)
class Found:
    """All pictures of a source in the order of names, what was left out, and the source's fingerprint."""

    pictures: list[PictureSource]
    left_out: list[LeftOut]
    fingerprint: str
    notes: tuple[str, ...] = ()  # on how the source was read, if that is not obvious


def file_of(source: PictureSource) -> Path | None:
    """The file of a picture, or the archive or database that holds it; None if it is in a store, or only a part
    of a picture (`Cropped`).
    """
    for name in ("path", "archive", "folder"):
        path = getattr(source.content, name, None)
        if path is not None:
            return Path(path)
    return None


def stamp_of_picture(source: PictureSource) -> str:
    """A value that changes when the file that holds a picture changes; "" if the file cannot be found."""
    path = file_of(source)
    if path is None:
        return str(getattr(source.content, "stamp", ""))
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def reading_order(pictures: Sequence[PictureSource]) -> list[int]:
    """The indices of pictures in the order in which they are read fastest: archive by archive, files as given."""

    def place(index: int) -> tuple[str, int]:
        """The archive of a picture ("" for a file), and its position there."""
        content = pictures[index].content
        return str(getattr(content, "archive", "")), content.position

    return sorted(range(len(pictures)), key=place)
