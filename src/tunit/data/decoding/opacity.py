"""The opacity of each pixel of a picture. It is kept compressed, because most pixels have the same value."""

import zlib
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Opacity:
    """The opacity of a whole picture, upright and at its own size."""

    size: tuple[int, int]  # width and height
    packed: bytes  # width x height bytes, 0 (clear) to 255 (opaque), by zlib

    @classmethod
    def of(cls, alpha: Image.Image | None) -> "Opacity | None":
        """The opacity in a layer of mode L; None if there is no layer, or all of it is opaque."""
        if alpha is None or alpha.getextrema() == (255, 255):
            return None
        return cls(alpha.size, zlib.compress(alpha.tobytes(), 1))

    def image(self) -> Image.Image:
        """The layer, of mode L."""
        return Image.frombytes("L", self.size, zlib.decompress(self.packed))
