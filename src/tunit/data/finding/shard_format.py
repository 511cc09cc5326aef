"""The format of a shard: a tar with a file `NUMBER.npy` for each picture, as the WebDataset library reads it.

All pictures of a set have one size and are not compressed, so the position of a picture follows from its number. Any
picture can be read alone, in any order, from a file or from object storage.
"""

import io
import tarfile

import numpy as np
from numpy.typing import NDArray

BLOCK = 512  # bytes; everything in a tar starts at a multiple of this
NPY_BYTES = 128  # the header of a .npy file
END = bytes(2 * BLOCK)  # of a tar


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06d}.tar"


def part_name(number: int) -> str:
    """The name of a shard's part file, which records the outcomes of its pictures until all shards are written."""
    return f"shard-{number:06d}.json"


def stride(size: int) -> int:
    """The number of bytes from one picture of S x S pixels to the next."""
    square = NPY_BYTES + size * size * 3
    return BLOCK + -(-square // BLOCK) * BLOCK


def span_of(place: int, each: int, size: int) -> tuple[str, int, int]:
    """The shard of a picture, and the first byte of its pixels and the byte after the last one."""
    shard, number = divmod(place, each)
    begin = number * stride(size) + BLOCK + NPY_BYTES
    return shard_name(shard), begin, begin + size * size * 3


def member(place: int, square: NDArray[np.uint8]) -> bytes:
    """One picture as a member of a tar; the bytes depend only on its number and its pixels."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": square.shape}
    )
    # A future version of NumPy may write a longer or shorter header, so it is padded to a fixed length.
    text = head.getvalue()[10:].rstrip(b" \n").ljust(NPY_BYTES - 11) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + square.tobytes()
    about = tarfile.TarInfo(f"{place:09d}.npy")
    about.size, about.mode = len(content), 0o644
    return about.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)
