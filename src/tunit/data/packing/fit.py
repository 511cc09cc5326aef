"""Turn a picture of any size and shape into a square of S x S pixels."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.errors import ConfigError

Box: TypeAlias = tuple[float, float, float, float]
FIT_MODES = ("stretch", "crop", "pad")
# Pillow first reduces a picture by a whole factor to at least three times the target, then resamples with
# antialiasing. This is several times faster for large pictures, and differs by at most one grey level on photographs.
_REDUCING_GAP = 3.0


def fit_picture(
    image: Image.Image,
    size: int,
    mode: str,
    background: tuple[int, int, int] = (255, 255, 255),
    box: Box | None = None,
) -> NDArray[np.uint8]:
    """Resize by antialiased bilinear interpolation. Returns (size, size, 3), 0..255, writable.

    image: mode RGB.
    box: left, top, right, bottom of the part of `image` to take, in pixels (fractions allowed); None takes all of it.
    mode: "stretch" resizes both sides to `size` and changes the proportions, as the paper does; "crop" keeps
        the largest central square; "pad" keeps all of the picture, centred on `background`.
    """
    if mode not in FIT_MODES:
        raise ConfigError(f"fit {mode!r} is unknown: use one of {', '.join(FIT_MODES)}")
    if size < 1:
        raise ConfigError(f"size {size} is not a picture size: use at least 1")
    box = box or (0.0, 0.0, float(image.width), float(image.height))
    if mode == "pad":
        return _padded(image, size, background, box)
    return np.array(_resize(image, (size, size), central_square(box) if mode == "crop" else box))


def padded_box(shape: tuple[float, float], size: int) -> tuple[int, int, int, int]:
    """The place of a picture of this width and height inside its square with "pad": left, top, right, bottom."""
    scale = size / max(shape)
    width, height = (max(1, round(side * scale)) for side in shape)
    left, top = (size - width) // 2, (size - height) // 2
    return left, top, left + width, top + height


def central_square(box: Box) -> Box:
    """The largest central square. Resizing it equals resizing the shorter side and cropping, but without rounding."""
    width, height = box[2] - box[0], box[3] - box[1]
    side = min(width, height)
    left, top = box[0] + (width - side) / 2, box[1] + (height - side) / 2
    return left, top, left + side, top + side


def _padded(image: Image.Image, size: int, background: tuple[int, int, int], box: Box) -> NDArray[np.uint8]:
    left, top, right, bottom = padded_box((box[2] - box[0], box[3] - box[1]), size)
    canvas = Image.new("RGB", (size, size), background)
    canvas.paste(_resize(image, (right - left, bottom - top), box), (left, top))
    return np.array(canvas)


def _resize(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=_REDUCING_GAP)
