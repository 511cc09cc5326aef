"""A picture of any size and shape to a square of S x S pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.errors import ConfigError

FIT_MODES = ("stretch", "crop", "pad")
# Pillow first shrinks by whole steps while three times the target remains, then resamples with antialiasing:
# several times faster on large pictures, and on photographs within a grey level of the one-step result.
_REDUCING_GAP = 3.0


def fit_picture(
    image: Image.Image, size: int, mode: str, background: tuple[int, int, int] = (255, 255, 255)
) -> NDArray[np.uint8]:
    """Resize by antialiased bilinear interpolation. Returns (size, size, 3), 0..255, writable.

    image: mode RGB.
    mode: "stretch" resizes both sides to `size` and changes the proportions, as the paper does; "crop" keeps
        the largest central square; "pad" keeps all of the picture, centred on `background`.
    """
    if mode not in FIT_MODES:
        raise ConfigError(f"fit {mode!r} is unknown: use one of {', '.join(FIT_MODES)}")
    if size < 1:
        raise ConfigError(f"size {size} is not a picture size: use at least 1")
    if mode == "pad":
        return _padded(image, size, background)
    whole = (0.0, 0.0, float(image.width), float(image.height))
    box = _central_square(image.size) if mode == "crop" else whole
    return np.array(_resize(image, (size, size), box))


def _central_square(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest central square: resizing it is resizing the shorter side and cropping, but unrounded."""
    width, height = size
    side = min(size)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _padded(image: Image.Image, size: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    width, height = image.size
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (size, size), background)
    small = _resize(image, inner, (0.0, 0.0, float(width), float(height)))
    canvas.paste(small, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.array(canvas)


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=_REDUCING_GAP)
