"""Convert the modes and colour profiles of files to the colours that viewers show: 8-bit sRGB on a background."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tunit.data.decoding.levels import Levels, levels_of

Colour = tuple[int, int, int]
_STRIP = 1 << 22  # pixels that are converted at a time
_MAX_PROFILE = 8 << 20  # bytes; the largest profiles of printers have about two mebibytes
_SAME = 2  # grey levels; a profile counts as sRGB if it changes no colour by more than this
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}  # Pillow's mode -> its name in profiles


@dataclass(frozen=True)
class Colours:
    """How the stored values of one picture are converted to sRGB; the same for each of its parts."""

    mode: str  # the mode of the colours without opacity: RGB, L, CMYK or LAB
    levels: Levels | None
    transform: Any  # an ImageCmsTransform, or None if nothing changes
    curve: tuple[int, ...] | None  # a table of 256 levels, for a PNG with its own gamma

    @classmethod
    def of(cls, image: Image.Image) -> "Colours":
        """The colours of a loaded picture. Raises NoLevelsError if its values are not finite."""
        mode = _colour_mode(image.mode)
        profile = image.info.get("icc_profile")
        transform = None
        if mode == "LAB":
            transform = _from_lab()
        elif isinstance(profile, bytes) and 128 < len(profile) <= _MAX_PROFILE:
            transform = _transform(profile, mode)
        levels = levels_of(image, strips(image)) if _may_have_levels(image) else None
        return cls(mode, levels, transform, None if profile else _curve(image))

    def layers(self, image: Image.Image, background: Colour) -> tuple[Image.Image, Image.Image | None]:
        """A picture, or a part of it, as a new image of mode RGB, with `background` behind transparent pixels; and
        the opacity of each pixel (mode L), which is None for a picture without transparency.
        """
        alpha = None
        if self.levels is not None:
            stored = np.asarray(image)
            opacity = self.levels.alpha(stored)
            alpha = None if opacity is None else Image.fromarray(opacity)
            colour = Image.fromarray(self.levels.eight_bits(stored))
        elif image.has_transparency_data:
            layer = image.convert("LA") if image.mode == "La" else image
            layer = layer.convert("RGBA")
            alpha = layer.getchannel("A")
            colour = layer.getchannel("R") if self.mode == "L" else layer.convert("RGB")
        else:
            colour = image if image.mode == self.mode else image.convert(self.mode)
        shown = self._shown(colour)
        if alpha is None:
            return (shown.copy() if shown is image else shown), None
        canvas = Image.new("RGB", shown.size, background)
        canvas.paste(shown, mask=alpha)
        return canvas, alpha

    def _shown(self, colour: Image.Image) -> Image.Image:
        if self.transform is not None:
            with contextlib.suppress(ImageCms.PyCMSError):  # a broken profile is ignored
                return ImageCms.applyTransform(colour, self.transform) or colour.convert("RGB")
        if self.curve is not None:
            colour = colour.point(self.curve * len(colour.getbands()))
        return colour if colour.mode == "RGB" else colour.convert("RGB")


def strips(image: Image.Image, multiple: int = 1) -> Iterator[Image.Image]:
    """Cut a picture into strips of full width from top to bottom, with heights that are multiples of `multiple`."""
    rows = max(1, _STRIP // (image.width * multiple)) * multiple
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _colour_mode(mode: str) -> str:
    if mode in ("CMYK", "LAB"):
        return mode
    return "L" if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") else "RGB"


def _may_have_levels(image: Image.Image) -> bool:
    return image.mode in ("L", "F") or image.mode.startswith("I")


def _curve(image: Image.Image) -> tuple[int, ...] | None:
    """The table of 256 levels from a PNG's own gamma to that of sRGB; None if these are the same."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or "srgb" in image.info or not isinstance(gamma, float):
        return None
    power = 1 / (2.2 * gamma) if 0.01 < gamma < 10 else 1.0
    if abs(power - 1) < 0.05:
        return None
    return tuple(round(255 * (level / 255) ** power) for level in range(256))


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """The transform from a profile's colours to sRGB; None for a profile that is broken, of another mode, or sRGB."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        # For grey, compute all 256 levels exactly, which costs little; the tables of the default mode are too coarse
        # for dark levels.
        exact = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", flags=exact)
        if mode != "CMYK" and _changes_nothing(transform, mode):
            return None
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, AttributeError):
        return None
    return transform


@lru_cache(maxsize=1)
def _from_lab() -> Any:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _changes_nothing(transform: Any, mode: str) -> bool:
    levels = range(0, 256, 15)
    colours = [(v,) for v in range(256)] if mode == "L" else list(product(levels, repeat=3))
    before = np.array(colours, np.uint8)[None]
    after = ImageCms.applyTransform(Image.fromarray(before[..., 0] if mode == "L" else before), transform)
    return after is not None and int(np.abs(np.asarray(after).astype(int) - before).max()) <= _SAME
