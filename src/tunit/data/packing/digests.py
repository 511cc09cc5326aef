"""The hash of a picture: equal for equal pixels."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def hash_of(pixels: NDArray[np.uint8]) -> str:
    """The hash of one picture's bytes, 32 hexadecimal digits."""
    return digest_of_bytes(np.ascontiguousarray(pixels).tobytes())


def digest_of_bytes(record: bytes) -> str:
    """As `hash_of`, of the bytes themselves."""
    return hashlib.blake2b(record, digest_size=16).hexdigest()
