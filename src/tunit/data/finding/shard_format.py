"""The format of a shard: a tar with a file `NUMBER.npy` for each picture, as the WebDataset library reads it.

All pictures of a set have one size and are not compressed, so the position of a picture follows from its number. Any
picture can be read alone, in any order, from a file or from object storage.
"""

import tarfile

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.npy_header import HEADER_BYTES, npy_header

BLOCK = 512  # bytes; everything in a tar starts at a multiple of this
END = bytes(2 * BLOCK)  # of a tar


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06d}.tar"


def part_name(number: int) -> str:
    """The name of a shard's part file, which records the outcomes of its pictures until all shards are written."""
    return f"shard-{number:06d}.json"


def stride(size: int) -> int:
    """The number of bytes from one picture of S x S pixels to the next."""
    square = HEADER_BYTES + size * size * 3
    return BLOCK + -(-square // BLOCK) * BLOCK


def span_of(place: int, each: int, size: int) -> tuple[str, int, int]:
    """The shard of a picture, and the first byte of its pixels and the byte after the last one."""
    shard, number = divmod(place, each)
    begin = number * stride(size) + BLOCK + HEADER_BYTES
    return shard_name(shard), begin, begin + size * size * 3


def member(place: int, square: NDArray[np.uint8]) -> bytes:
    """One picture as a member of a tar; the bytes depend only on its number and its pixels."""
    content = npy_header(square.shape) + square.tobytes()
    about = tarfile.TarInfo(f"{place:09d}.npy")
    about.size, about.mode = len(content), 0o644
    return about.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)
