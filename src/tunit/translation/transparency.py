"""Transparency: a source that is cut out stays cut out, though the networks see it on the background colour."""

from PIL import Image


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
