"""Transparency: a source that is cut out stays cut out, though the networks see it on the background colour."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tunit.data.decode import FORMATS
from tunit.data.sources import DiskFile, PictureSource
from tunit.translation.pictures import Picture

OPAQUE = 255
# Members of other archives cannot be read a second time without reading all before them again.
SEEKABLE = ".zip"


def transparency_of(picture: Picture) -> Image.Image | None:
    """How opaque each pixel is: mode L, upright, at the picture's own size; None where all of it is opaque.

    Arrays and tensors have none, and nothing is known of pictures inside tar archives.
    """
    try:
        if isinstance(picture, Image.Image):
            return _alpha(picture)
        if isinstance(picture, str | Path):
            picture = PictureSource(str(picture), None, DiskFile(Path(picture)))
        if not isinstance(picture, PictureSource):
            return None
        archive = getattr(picture.content, "archive", None)
        if archive is not None and Path(archive).suffix.lower() != SEEKABLE:
            return None
        with Image.open(io.BytesIO(picture.read()), formats=FORMATS) as image:
            return _alpha(image)
    except Exception:  # the picture itself was decoded, whatever is wrong here
        return None


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
    return alpha if int(np.asarray(alpha).min()) < OPAQUE else None


def with_transparency(result: Image.Image, alpha: Image.Image, fit: str) -> Image.Image:
    """A result (RGB) with the transparency of its source, of which `fit` "crop" shows the central square: RGBA."""
    box = (0.0, 0.0, float(alpha.width), float(alpha.height))
    if fit == "crop":
        side = min(alpha.size)
        left, top = (alpha.width - side) / 2, (alpha.height - side) / 2
        box = left, top, left + side, top + side
    result = result.copy()
    result.putalpha(alpha.resize(result.size, Image.Resampling.BILINEAR, box=box))
    return result
