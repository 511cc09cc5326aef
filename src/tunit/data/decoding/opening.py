"""Open pictures with Pillow (only some formats, without its own limits and warnings), and turn them upright."""

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
READABLE = "JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF or PPM"
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "HEIF")  # not MPO and TIFF, whose other pictures are no animation
# Brands of files that begin with a box "ftyp" (ISO/IEC 14496-12); mif1 and msf1 may hold either kind.
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
QUIET_DECODERS = ("JPEG", "MPO", "PNG")  # formats whose decoders neither check Pillow's limit nor warn
_ORIENTATION = 0x0112  # the EXIF tag that says how the pixels are turned
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow stretches the grey values of a PNG of 2 or 4 bits to 0 .. 255. By its raw mode: from one value to the next.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
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


class NoReaderError(Exception):
    """A format that needs a package which is not installed; the message names it."""


def open_picture(data: bytes) -> Image.Image:
    """Open a picture; only its header is read.

    Call it inside `quiet_pillow`, because it changes a global table of Pillow for a moment. Raises NoReaderError if a
    package is missing, and what Pillow raises.
    """
    formats = _formats_for(data)
    TiffImagePlugin.OPEN_INFO.update(_GREY_TIFFS)  # type: ignore[arg-type]
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
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
    scale_transparent_value(image)
    return image


def scale_transparent_value(image: Image.Image) -> None:
    """Let the transparent value of a PNG in `image.info` have the scale of the decoded pixels, of 8 bits.

    Pillow keeps the number of the file, so in a PNG of 2, 4 or 16 bits other pixels would be transparent, or none.
    Call it before the pixels are loaded: afterwards nothing is changed, because the bits of the file are not known.
    """
    value, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    if image.format != "PNG" or not tiles:
        return
    raw_mode = tiles[0][3]
    if raw_mode in _GREY_STEPS and isinstance(value, int):
        step = _GREY_STEPS[raw_mode]
        image.info["transparency"] = (value & 255 // step) * step
    elif raw_mode == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(channel >> 8 for channel in value)


def _formats_for(data: bytes) -> tuple[str, ...]:
    """The formats to try. AVIF needs Pillow 11.3, HEIC a separate package; each is loaded when a file needs it."""
    if data[4:8] != b"ftyp":
        return FORMATS
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    if not brands.isdisjoint(_AVIF_BRANDS):
        return _avif()
    return FORMATS if brands.isdisjoint(_HEIC_BRANDS) else _heif()


def _avif() -> tuple[str, ...]:
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        AvifImagePlugin = None  # type: ignore[assignment]
    if AvifImagePlugin is None or not AvifImagePlugin.SUPPORTED:
        raise NoReaderError("an AVIF picture, which this Pillow cannot read: pip install --upgrade pillow")
    # One thread per picture: each thread would take memory, and several pictures are decoded at the same time anyway.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return ("AVIF",)


def _heif() -> tuple[str, ...]:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise NoReaderError(
            "a HEIC picture, which takes a package to read: pip install pillow-heif"
        ) from None
    register_heif_opener(thumbnails=False, decode_threads=1)
    return ("HEIF",)


def is_animated(image: Image.Image) -> bool:
    """Whether an opened picture is the first of an animation."""
    try:
        return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    except Exception:  # damaged after its first picture, which can still be used
        return False


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes (16 are enough) are those of a format that can be read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (head[4:8] == b"ftyp" and head[8:12] in (*_AVIF_BRANDS, *_HEIC_BRANDS))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\r", b"\n"))
    )


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; a damaged EXIF block counts as upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a picture with damaged metadata is still a picture
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned upright; orientation: how its pixels are stored."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


__all__ = [
    "FORMATS",
    "QUIET_DECODERS",
    "READABLE",
    "NoReaderError",
    "is_animated",
    "looks_like_picture",
    "open_picture",
    "orientation_of",
    "quiet_pillow",
    "scale_transparent_value",
    "upright",
]
