"""Packed pictures on disk: `pictures.npy`, a plain NumPy array (N, S, S, 3) of bytes, and `index.json`
beside it.

The index is written last and removed first, so a folder with an index is always complete, even after a job was
killed.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.index import Index, has_our_index, hash_of, hash_of_bytes, read_index, write_index
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import INDEX, MARKER, PIXELS
from tunit.data.finding.npy_header import HEADER_BYTES, npy_header
from tunit.data.packing.sharded import ShardedImages
from tunit.errors import DataError, reason_of
from tunit.files.atomic import replacing


@dataclass(frozen=True)
class PackedPictures:
    """Pictures of one size, ready to train on."""

    # (N, S, S, 3), 0..255: a read-only memory map, or ShardedImages, whose rows are read when they are needed.
    images: NDArray[np.uint8]
    names: list[str]  # unique POSIX paths, in ascending order
    labels: NDArray[np.int64]  # (N,), indices into classes, -1 = unlabelled
    classes: list[str]  # in ascending order
    left_out: list[LeftOut]
    hashes: list[str]  # of each picture's S x S x 3 bytes: equal for equal pictures
    reused: bool  # whether the pack existed already
    notes: tuple[str, ...] = ()  # on how the source was read, if that is not obvious

    @property
    def any_labelled(self) -> bool:
        """Whether at least one picture has a label."""
        return bool((self.labels >= 0).any())

    @property
    def all_labelled(self) -> bool:
        """Whether every picture has a label."""
        return bool((self.labels >= 0).all())


def open_pack_with_index(
    folder: Path, *, reused: bool = True, verify: bool = True
) -> tuple[Index, PackedPictures]:
    """The pack in a folder, with its index. With `verify` every picture is compared with its hash.

    Raises DataError if the folder holds no pack, or a damaged one.
    """
    index = read_index(folder)
    return index, pack_of(index, folder, reused=reused, verify=verify)


def pack_of(index: Index, folder: Path, *, reused: bool = True, verify: bool = True) -> PackedPictures:
    """The pack with this index, which was read from the folder; `verify` and errors as for `open_pack_with_index`."""
    if index.shards is not None:
        return pictures_of(index, cast(NDArray[np.uint8], ShardedImages.of(index, folder)), reused=reused)
    images = _mapped(folder / PIXELS, index)
    if verify:
        _check_pixels(folder / PIXELS, images, index)
    return pictures_of(index, images, reused=reused)


def pictures_of(index: Index, images: NDArray[np.uint8], *, reused: bool = True) -> PackedPictures:
    """The pictures of an index, with their pixels."""
    return PackedPictures(
        images,
        index.names,
        np.array(index.labels, dtype=np.int64),
        index.classes,
        index.left_out,
        index.hashes,
        reused=reused,
        notes=tuple(index.notes),
    )


def _mapped(path: Path, index: Index) -> NDArray[np.uint8]:
    count, size = len(index.names), index.size
    expected = HEADER_BYTES + count * bytes_per_picture(size)
    try:
        actual = path.stat().st_size
        if actual != expected:
            raise DataError(f"{path} has {actual:,} of {expected:,} bytes: prepare the pictures again")
        with path.open("rb") as file:
            whole = file.read(HEADER_BYTES) == npy_header((count, size, size, 3))
        if not whole:
            raise DataError(f"{path} does not agree with its {INDEX}: prepare the pictures again")
        return np.memmap(path, np.uint8, mode="r", offset=HEADER_BYTES, shape=(count, size, size, 3))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): prepare the pictures again") from None


def open_packed(folder: Path, *, reused: bool = True, verify: bool = True) -> PackedPictures:
    """The pictures of a pack, without checking their source; `verify` and errors as for `open_pack_with_index`."""
    return open_pack_with_index(folder, reused=reused, verify=verify)[1]


def _check_pixels(path: Path, images: NDArray[np.uint8], index: Index) -> None:
    """Raises DataError if pictures do not match the hashes in the index."""
    damaged = [i for i, pixel_hash in enumerate(index.hashes) if hash_of(images[i]) != pixel_hash]
    if damaged:
        raise DataError(
            f"{path} is damaged at {len(damaged):,} of {len(images):,} pictures ({index.names[damaged[0]]} is the "
            "first): prepare the pictures again"
        )


def claim(folder: Path) -> None:
    """Create the folder and mark it as ours. Raises DataError if PIXELS or INDEX is there and not ours."""
    marker = folder / MARKER
    foreign = not marker.exists() and not has_our_index(folder)
    if foreign and any((folder / name).exists() for name in (PIXELS, INDEX)):
        raise DataError(f"{folder} holds a {PIXELS} or {INDEX} not written by tunit: choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise UnwritablePackError(folder, error) from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Let only one process at a time build in a claimed folder, and remove leftovers of killed jobs.

    The system releases the lock of a killed process. Gives False where the file system has no locks: two processes
    may then build at the same time, and each installs a complete pack. Raises DataError if the folder's marker is
    not a file that can be written.
    """
    if not (folder / MARKER).is_file():  # opening a named pipe would wait for its other end
        raise DataError(f"{folder / MARKER} is not a file: remove it, or choose another folder")
    try:
        # Open for writing, because NFS gives an exclusive lock only for such a file.
        marker = (folder / MARKER).open("rb+")
    except OSError as error:
        raise UnwritablePackError(folder, error) from None
    with marker:
        alone = False
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(marker, fcntl.LOCK_EX)
                alone = True
                for stale in folder.glob(f"{PIXELS}.*.part"):
                    stale.unlink(missing_ok=True)
        yield alone


def new_pixels(folder: Path, count: int, size: int, path: Path | None = None) -> Path:
    """A file for `count` pictures, all black, next to the current one, which stays valid until `install`."""
    path = path or folder / f"{PIXELS}.{os.getpid()}.part"
    with path.open("wb") as file:
        file.write(npy_header((count, size, size, 3)))
        file.truncate(HEADER_BYTES + count * bytes_per_picture(size))
    return path


def bytes_per_picture(size: int) -> int:
    """The number of bytes of one picture of size x size pixels."""
    return size * size * 3


def write_picture_bytes(path: Path, slot: int, pixels: NDArray[np.uint8]) -> None:
    """Write the picture of a slot (see pack.py).

    This does not use a memory map: with one, a full disk would kill the process.
    """
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + slot * pixels.nbytes)
        file.write(pixels.tobytes())


def read_picture_bytes(file: IO[bytes], slot: int, size: int) -> tuple[bytes, str]:
    """The bytes of the picture of a slot, and their hash."""
    file.seek(HEADER_BYTES + slot * bytes_per_picture(size))
    pixels = file.read(bytes_per_picture(size))
    return pixels, hash_of_bytes(pixels)


class UnwritablePackError(DataError):
    """A pack's folder cannot be written to."""

    def __init__(self, folder: Path, error: OSError, remedy: str = "choose another folder") -> None:
        super().__init__(f"{folder} cannot be written to ({reason_of(error)}): {remedy}")


class LostPictureError(Exception):
    """A picture is not at the position where it was written."""


def keep_pictures(path: Path, slots: Iterable[int], size: int, expected: list[str] | None = None) -> None:
    """Keep only the pictures of `slots` (ascending) by moving each forward in the file.

    expected: the hash of each, if an earlier process may have moved some of them already. Raises LostPictureError if
    a picture is then neither at its slot nor at its new position.
    """
    step, kept = bytes_per_picture(size), 0
    with path.open("r+b") as file:
        for slot in slots:
            there = expected is not None and read_picture_bytes(file, kept, size)[1] == expected[kept]
            if slot != kept and not there:
                pixels, pixel_hash = read_picture_bytes(file, slot, size)
                if expected is not None and pixel_hash != expected[kept]:
                    raise LostPictureError(slot)
                file.seek(HEADER_BYTES + kept * step)
                file.write(pixels)
            elif expected is not None and not there:
                raise LostPictureError(slot)
            kept += 1
        file.truncate(HEADER_BYTES + kept * step)
        file.seek(0)
        file.write(npy_header((kept, size, size, 3)))
        file.flush()
        os.fsync(file.fileno())


def install(folder: Path, pixels: Path, index: Index) -> None:
    """Replace the content of the folder by finished pixels and their index, which is written last."""
    with replacing(folder / INDEX) as part:
        write_index(part, index)
        (folder / INDEX).unlink(missing_ok=True)
        pixels.replace(folder / PIXELS)


def check_without_shards(folder: Path) -> None:
    """Raises DataError if shards lie in this folder: runs may read them where they are, so they are not replaced."""
    try:
        shards = read_index(folder).shards
    except DataError:
        return
    if shards is not None and not shards.root:
        raise DataError(
            f"{folder} holds shards, which runs may read there: give another --out, or --shards, too"
        )


__all__ = [
    "HEADER_BYTES",
    "INDEX",
    "MARKER",
    "PIXELS",
    "Index",
    "LostPictureError",
    "PackedPictures",
    "bytes_per_picture",
    "check_without_shards",
    "claim",
    "hash_of",
    "install",
    "keep_pictures",
    "locked",
    "new_pixels",
    "open_pack_with_index",
    "open_packed",
    "pictures_of",
    "read_picture_bytes",
    "write_picture_bytes",
]
