"""Pictures inside a page: encoded as WebP, or PNG files unchanged, with alternative texts."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.printing import escape

QUALITY = 82
LARGEST = 128  # pixels; larger pictures are reduced, to keep the page small
THUMBNAIL = 40  # pixels of a picture on the map
Pictures = NDArray[np.uint8]


def webp_uri(picture: Image.Image) -> str:
    """data:image/webp;base64,..."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def png_uri(path: Path) -> str:
    """data:image/png;base64,... of an unchanged PNG file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def reduced(pixels: Pictures, side: int = LARGEST) -> Image.Image:
    """(S, S, 3) as an image of at most `side` pixels."""
    picture = Image.fromarray(pixels)
    if picture.width <= side:
        return picture
    return picture.resize((side, side), Image.Resampling.BOX, reducing_gap=None)


def img(pixels: Pictures, alt: str, kind: str = "") -> str:
    """An <img> of (S, S, 3) with its alternative text."""
    picture = reduced(pixels)
    pixelated = " small" if picture.width <= 64 else ""
    return (
        f'<img class="pic{pixelated} {kind}" loading="lazy" decoding="async" width="{picture.width}" '
        f'height="{picture.height}" alt="{escape(alt, quote=True)}" src="{webp_uri(picture)}">'
    )


def sprite_sheet(pictures: Sequence[Pictures]) -> tuple[str, int]:
    """All pictures, at THUMBNAIL pixels, in one image, row by row. Returns its data URI and the number of columns."""
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    rows = max(1, math.ceil(len(pictures) / columns))
    sheet = Image.new("RGB", (columns * THUMBNAIL, rows * THUMBNAIL))
    for i, pixels in enumerate(pictures):
        small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        sheet.paste(small, (i % columns * THUMBNAIL, i // columns * THUMBNAIL))
    return webp_uri(sheet), columns
