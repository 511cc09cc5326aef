"""Choose the image size from the pictures, if the config does not give it."""

import statistics
from pathlib import Path

from tunit.data.decoding.decode import PictureError
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import reading_order
from tunit.data.finding.spread import stride
from tunit.data.packing.squares import picture_size

LOOK_AT = 100  # at most this many pictures, spread over the source, are looked at
LARGEST = 128  # the largest size that is chosen; larger ones need a GPU, and the user must ask for them
SMALLEST = 32


def choose_image_size(source: Path, picture_column: str = "") -> int:
    """The largest power of two, from 32 to 128, that is not above the median of the pictures' shorter sides.

    picture_column: the column of a table with the pictures' paths; "" finds it.
    """
    pictures = find_pictures(source, picture_column=picture_column).pictures
    sample, sides = pictures[:: stride(len(pictures), LOOK_AT)], []
    for i in reading_order(sample):  # each step back in a .tar.gz would unpack it from its start
        try:
            sides.append(min(picture_size(sample[i])))
        except PictureError:
            continue  # packing will report it
    median = statistics.median(sides) if sides else LARGEST
    size = SMALLEST
    while size * 2 <= min(median, LARGEST):
        size *= 2
    return size
