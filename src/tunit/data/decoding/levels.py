"""Convert grey pictures of more than 8 bits, signed or floating-point, to the 256 levels that viewers show.

If a file says which value is white, by its type or by tags of PNG and TIFF, this value is used. If not, it is guessed
from the values in the picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS, PHOTOMETRIC, MAX_SAMPLE, SAMPLE_FORMAT = 258, 262, 281, 339  # TIFF tags
_SIGNED, _FLOAT = 2, 3  # values of SAMPLE_FORMAT
# Possible values of white if a file does not state it: those of 8, 12 and 16 bits, and 1 for floating-point values.
_INTEGERS, _FLOATS = (255.0, 4095.0, 65535.0), (1.0, 255.0, 4095.0, 65535.0)
# How far values may lie below black or above white, for example after sharpening; as share of white.
_OVERSHOOT = 0.25
_DARKEST = 1 / 16  # if no value of a picture is above this share of white, the guess of white is wrong


class NoLevelsError(ValueError):
    """The values cannot be shown as grey levels."""


@dataclass(frozen=True)
class Levels:
    """How the stored values of one picture are converted to grey levels."""

    kind: np.dtype[Any]  # what the stored bytes are
    black: float
    white: float
    transparent: float | None = None  # pixels of this value are transparent

    def eight_bits(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        """(H, W) values to 0..255; values beyond black and white are clipped."""
        grey = _as(stored, self.kind).astype(np.float32)
        scale = np.float32(255 / (self.white - self.black))
        shown: NDArray[np.float32] = np.clip((grey - np.float32(self.black)) * scale, 0, 255)
        return shown.round().astype(np.uint8)

    def alpha(self, stored: NDArray[Any]) -> NDArray[np.uint8] | None:
        """(H, W) opacity, or None if everything is opaque."""
        if self.transparent is None:
            return None
        return np.where(_as(stored, self.kind) == self.transparent, 0, 255).astype(np.uint8)


def levels_of(image: Image.Image, strips: Iterable[Image.Image]) -> Levels | None:
    """The levels of a loaded picture; None if it has unsigned 8 bits already.

    strips: the picture in parts, so that a large one need not be copied as a whole.
    Raises NoLevelsError if values are infinite or NaN.
    """
    kind = _kind(image)
    if kind is None:
        return None
    ends = [_least_and_largest(_as(np.asarray(strip), kind)) for strip in strips]
    if not ends:
        raise NoLevelsError("it holds no values")
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    black, white = _range(image, kind, low, high)
    if _tag(image, PHOTOMETRIC) == 0:  # white is zero
        black, white = white, black
    transparent = image.info.get("transparency") if image.mode.startswith("I") else None
    return Levels(kind, black, white, transparent if isinstance(transparent, int) else None)


def _kind(image: Image.Image) -> np.dtype[Any] | None:
    mode, sample = image.mode, _tag(image, SAMPLE_FORMAT)
    if mode == "L":
        return np.dtype(np.int8) if sample == _SIGNED else None
    if mode == "F":
        return np.dtype(np.float32)
    if mode.startswith("I;16"):
        order = ">" if mode == "I;16B" else "<"
        return np.dtype(order + ("f2" if sample == _FLOAT else "u2"))
    if mode == "I":
        unsigned = _tag(image, BITS) == 32 and sample not in (_SIGNED, _FLOAT)
        return np.dtype(np.uint32 if unsigned else np.int32)
    return None


def _as(stored: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """The same bytes as numbers of `kind`."""
    return stored if stored.dtype == kind else np.ascontiguousarray(stored).view(kind)


def _least_and_largest(values: NDArray[Any]) -> tuple[float, float]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NoLevelsError("it holds values that are infinite or not numbers")
    return float(values.min()), float(values.max())


def _range(image: Image.Image, kind: np.dtype[Any], low: float, high: float) -> tuple[float, float]:
    """The values of black and white."""
    said = _white_of_file(image)
    if said is not None and low >= 0 and high <= said:
        return 0.0, said
    if kind.kind == "u" and kind.itemsize == 2 or image.format == "PPM":  # noqa: RUF021
        return 0.0, 65535.0
    if kind == np.int8:
        return (0.0, 127.0) if low >= 0 else (-128.0, 127.0)
    if kind.kind == "f":
        if low < -_OVERSHOOT and max(-low, high) <= 1 + _OVERSHOOT:
            return -1.0, 1.0
        return _guess(low, high, _FLOATS)
    largest = 32767.0 if _tag(image, BITS) == 16 else float(np.iinfo(kind).max)
    return _guess(low, high, (*(white for white in _INTEGERS if white < largest), largest))


def _guess(low: float, high: float, whites: tuple[float, ...]) -> tuple[float, float]:
    """Black, and the first possible white that the values hardly exceed; without one, their minimum and maximum."""
    for white in whites:
        if high <= white * (1 + _OVERSHOOT):
            is_bright = high >= white * _DARKEST or white == whites[0]
            if low >= -white * _OVERSHOOT and is_bright:
                return 0.0, white
            break
    return low, max(high, low + 1e-6)


def _white_of_file(image: Image.Image) -> float | None:
    """The value of white that the file itself gives."""
    bits = image.info.get("significant bits")  # this entry comes from our reader of PNG
    if bits is None and image.mode.startswith("I;16"):
        bits = _tag(image, BITS)
    if bits is not None and 0 < bits < 16:
        return float(2**bits - 1)
    most = _tag(image, MAX_SAMPLE)
    return float(most) if most is not None and most > 0 else None


def _tag(image: Image.Image, number: int) -> int | None:
    """The first value of a TIFF tag; None for other formats, or if it is not a number."""
    try:
        value = getattr(image, "tag_v2", {}).get(number)
    except Exception:  # a damaged tag counts as missing
        return None
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None
