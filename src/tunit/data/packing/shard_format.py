"""The form of a shard: a tar with a file `NUMBER.npy` for each picture, as the WebDataset library reads it.

All squares of a set have one size and are not compressed, so the number of a picture says where it is: any can be
read alone, in any order, from a file as well as from object storage.
"""

import io
import tarfile

import numpy as np
from numpy.typing import NDArray

BLOCK = 512  # bytes; everything in a tar begins at a multiple of it
NPY_BYTES = 128  # the head of a .npy file
END = bytes(2 * BLOCK)  # of a tar


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:06d}.tar"


def part_name(number: int) -> str:
    """The file that says, until all shards are written, what became of the pictures up to the end of a shard."""
    return f"shard-{number:06d}.json"


def stride(size: int) -> int:
    """The bytes from one picture of S x S pixels to the next."""
    square = NPY_BYTES + size * size * 3
    return BLOCK + -(-square // BLOCK) * BLOCK


def span_of(place: int, each: int, size: int) -> tuple[str, int, int]:
    """The shard in which the pixels of a place are, the first of their bytes and the one behind the last."""
    shard, number = divmod(place, each)
    begin = number * stride(size) + BLOCK + NPY_BYTES
    return shard_name(shard), begin, begin + size * size * 3


def member(place: int, square: NDArray[np.uint8]) -> bytes:
    """One picture as a member of a tar, which depends on its place and its pixels alone."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": square.shape}
    )
    # NumPy's own head may become longer or shorter one day: its text is padded to one length.
    text = head.getvalue()[10:].rstrip(b" \n").ljust(NPY_BYTES - 11) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + square.tobytes()
    about = tarfile.TarInfo(f"{place:09d}.npy")
    about.size, about.mode = len(content), 0o644
    return about.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)
