"""Open pictures with Pillow: only some formats, and without Pillow's own limits and warnings."""

import contextlib
import io
import sys
import threading
import warnings
from collections.abc import Iterator

from PIL import (  # a reader that is named in FORMATS must have been imported
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

# The formats that Pillow may try: a short list keeps rarely used parsers away from untrusted files. JPEG includes
# MPO, a JPEG with a second picture after the first, which many phones write.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
READABLE = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
LOAD_QUIETLY = ("JPEG", "MPO", "PNG")  # their decoders neither check Pillow's limit nor warn
_pillow = threading.RLock()


def _grey_tiffs() -> dict[tuple[object, ...], tuple[str, str]]:
    """Kinds of grey that Pillow's table of TIFFs lacks: white as zero, unsigned 32 bits, floats of 16 and 64 bits."""
    rows = {}
    for order, at_32, at_64 in ((b"II", "32", "64"), (b"MM", "32B", "64B")):
        at_16 = "I;16B" if order == b"MM" else "I;16"
        for photometric in (0, 1):
            for sample, bits, modes in (
                (2, 8, ("L", "L")),
                (1, 16, (at_16, at_16)),
                (2, 16, ("I", f"{at_16}S")),
                (3, 16, (at_16, at_16)),
                (1, 32, ("I", f"I;{at_32}")),
                (2, 32, ("I", f"I;{at_32}S")),
                (3, 32, ("F", f"F;{at_32}F")),
                (3, 64, ("F", f"F;{at_64}F")),
            ):
                rows[order, photometric, (sample,), 1, (bits,), ()] = modes
    return {key: modes for key, modes in rows.items() if key not in TiffImagePlugin.OPEN_INFO}


_GREY_TIFFS = _grey_tiffs()


@contextlib.contextmanager
def quiet_pillow(max_pixels: int) -> Iterator[None]:
    """Set Pillow's pixel limit to ours and silence its warnings, for one thread at a time because both are global."""
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def open_picture(data: bytes) -> Image.Image:
    """The picture with its header read. Under the lock, because all threads share Pillow's table."""
    TiffImagePlugin.OPEN_INFO.update(_GREY_TIFFS)  # type: ignore[arg-type]
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    finally:
        for key in _GREY_TIFFS:
            del TiffImagePlugin.OPEN_INFO[key]  # type: ignore[arg-type]
    if image.format == "TIFF" and sys.byteorder == "little":
        # libtiff returns values in this machine's byte order; Pillow overlooks that for unsigned 32 bits.
        image.tile = [
            tile._replace(args=(tile.args[0].replace("BS", "S").replace("BF", "F"), *tile.args[1:]))
            if tile.codec_name == "libtiff" and str(tile.args[0]).endswith(("BS", "BF"))
            else tile
            for tile in getattr(image, "tile", [])
        ]
    return image


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes (16 are enough) are those of a format that can be read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\r", b"\n"))
    )


__all__ = ["FORMATS", "LOAD_QUIETLY", "READABLE", "looks_like_picture", "open_picture", "quiet_pillow"]
