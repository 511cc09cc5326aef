"""A part of a picture, cut out while it is read."""

import io
from dataclasses import dataclass

from tunit.data.decoding.bounds import MAX_PIXELS, memory_for, seconds_for
from tunit.data.decoding.decode import UNREADABLE, PictureError, decode_picture
from tunit.data.decoding.worker_process import bounded
from tunit.data.finding.found import ByteSource


@dataclass(frozen=True)
class Cropped:
    """The part of a picture inside a box. Reading it gives a picture file of only this part.

    box: left, top, right, bottom (right and bottom excluded), in pixels of the picture as it is stored, because files
        of coordinates ignore orientation tags. What is outside the picture is cut off.
    """

    content: ByteSource
    box: tuple[int, int, int, int]
    max_pixels: int = MAX_PIXELS  # of the whole picture

    @property
    def position(self) -> int:
        """Pictures are read fastest in ascending order of their positions."""
        return self.content.position

    def read(self) -> bytes:
        """A PPM file of the part: lossless, and quick to write and to read. Raises PictureError."""
        data = self.content.read()
        with bounded(seconds_for(self.max_pixels), memory_for(self.max_pixels)):
            image = decode_picture(data, upright=False, max_pixels=self.max_pixels)
        left, top, right, bottom = self.box
        inside = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            size = f"{image.width} x {image.height}"
            raise PictureError(UNREADABLE, f"its box {self.box} holds nothing of the {size} picture")
        file = io.BytesIO()
        image.crop(inside).save(file, "PPM")
        return file.getvalue()
