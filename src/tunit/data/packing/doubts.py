"""What is probably not meant about packed pictures, though they can be trained on: a sentence each."""

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.spread import stride
from tunit.data.packing.packed import PackedPictures

_LOOK_AT = 256  # at most this many pictures, spread over a pack, are checked for being too dark
_DARK = 72  # grey levels below which a picture counts as dark; 14-bit values stored in 16 bits are below 64


def warning_if_dark(pictures: PackedPictures) -> str | None:
    """A warning if most pictures are almost black or white, as if 10 or 12 bits were stored in 16; otherwise None."""
    looked_at = pictures.images[:: stride(len(pictures.images), _LOOK_AT)]
    ends = [(int(image.min()), int(image.max())) for image in looked_at]
    black = sum(high < _DARK for _, high in ends)
    white = sum(low > 255 - _DARK for low, _ in ends)
    most, what = max((black, "dark"), (white, "bright"))
    if 2 * most <= len(ends):
        return None
    limit = f"no value above {_DARK - 1}" if what == "dark" else f"no value below {256 - _DARK}"
    return (
        f"{most} of {len(ends)} checked pictures are very {what}, with {limit} of 255: if they hold 10 or 12 bits in "
        "files of 16 bits, write them with the whole range of 16 bits"
    )


def warning_if_unlabelled(labels: NDArray[np.int64], wanted: str) -> str | None:
    """A warning if labels are wanted (`--labels`), but no picture has one; otherwise None.

    labels: (N,), -1 where unlabelled.
    """
    if wanted == "none" or (labels >= 0).any():
        return None
    return (
        f"no picture has a label, although --labels is {wanted}, so all count as unlabelled: fill in the labels, or "
        "give --labels none"
    )
