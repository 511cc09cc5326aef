"""From the bytes of a picture to an upright RGB image, whatever its format and mode.

The content decides the format. The header is checked before a single pixel is decoded, so that a small file
that declares a huge picture costs nothing. Every failure becomes a `PictureError` with a plain reason.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # a reader that is named in FORMATS must have been imported
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from tunit.errors import TunitError

MAX_PIXELS = 178_956_970  # half a gibibyte of RGB; where Pillow refuses to go on, too
# What Pillow may try: a short list keeps rarely used parsers away from untrusted files. JPEG covers MPO, a
# JPEG with a second picture behind the first, as many phones write it.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
READABLE = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
EMPTY = "empty"
UNREADABLE = "unreadable"
TRUNCATED = "truncated"
TOO_SMALL = "too small"
BOMB = "decompression bomb"

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# How an orientation moves the corner where the stored pixels begin.
_SWAPPED, _FROM_RIGHT, _FROM_BELOW = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_LOAD_QUIETLY = ("JPEG", "MPO", "PNG")  # formats that decode without a look at Pillow's limit, or a warning
_pillow = threading.RLock()


class PictureError(TunitError):
    """One picture cannot be used. `reason` is one of a few plain words, `detail` says what was met."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both arguments, so that it survives pickling between processes
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Decoded:
    """A picture, perhaps at a fraction of its size."""

    image: Image.Image  # mode RGB, upright
    # Left, top, right, bottom of the picture inside `image`. A JPEG at 1/8 fills whole blocks of 8 pixels, so
    # that the last column may stand for less than its width; to resize all of it would distort the picture.
    box: tuple[float, float, float, float]
    size: tuple[int, int]  # width and height of the file, upright


def decode_picture(
    data: bytes,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
    upright: bool = True,
) -> Image.Image:
    """Decode one picture in full: mode RGB, EXIF orientation applied, transparency laid on `background`.

    data: the whole file. Of an animation the first frame is taken.
    max_pixels, min_side: limits on the declared size, checked before decoding.
    upright: False leaves the EXIF orientation alone: the pixels as they are stored.

    Raises PictureError: `empty`, `unreadable`, `truncated`, `too small` or `decompression bomb`.
    """
    return _decode(data, background, max_pixels, None, min_side, upright).image


def decode_scaled(
    data: bytes,
    at_least: int,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
) -> Decoded:
    """As `decode_picture`, but a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster.

    at_least: a target side in pixels. Both sides stay at least twice the target, so that an antialiased resize
        to it still sees more than it shows. Other formats are decoded in full. All limits, and the size that is
        given back, are those of the file.
    """
    return _decode(data, background, max_pixels, at_least, min_side, upright=True)


def _decode(
    data: bytes,
    background: tuple[int, int, int],
    max_pixels: int,
    at_least: int | None,
    min_side: int,
    upright: bool,
) -> Decoded:
    if not data:
        raise PictureError(EMPTY, "0 bytes")
    try:
        with contextlib.ExitStack() as stack:
            with _quiet_pillow(max_pixels):
                image = stack.enter_context(Image.open(io.BytesIO(data), formats=FORMATS))
                size = image.size
                _check_size(size, max_pixels, min_side)
                drafted = at_least and image.draft(image.mode, (2 * at_least, 2 * at_least))
                if image.format not in _LOAD_QUIETLY:
                    image.load()
            image.load()  # where threads decode at the same time
            with _quiet_pillow(max_pixels):
                orientation = _orientation(image) if upright else 1
                picture = _upright(_to_rgb(image, background), orientation)
            shown = drafted[1][2:] if drafted else size
            return _decoded(picture, shown, size, orientation)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(BOMB, f"its header declares more than {2 * max_pixels:,} pixels") from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; the job goes on
        raise _explain(error, data) from None


def _decoded(
    image: Image.Image, shown: tuple[float, float], size: tuple[int, int], orientation: int
) -> Decoded:
    """shown, size: width and height as stored, of the scaled picture (not whole pixels) and of the file."""
    if orientation in _SWAPPED:
        shown, size = shown[::-1], size[::-1]
    left = image.width - shown[0] if orientation in _FROM_RIGHT else 0.0
    top = image.height - shown[1] if orientation in _FROM_BELOW else 0.0
    return Decoded(image, (left, top, left + shown[0], top + shown[1]), size)


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes (16 are enough) carry the signature of a format that can be read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\r", b"\n"))
    )


@contextlib.contextmanager
def _quiet_pillow(max_pixels: int) -> Iterator[None]:
    """Hold Pillow's own limit at ours and its warnings back; both are global, hence one thread at a time."""
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_size(size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(BOMB, f"{width} x {height} pixels, at most {max_pixels:,} in all allowed")
    if min(size) < min_side:
        raise PictureError(TOO_SMALL, f"{width} x {height}, at least {min_side} wanted")


def _explain(error: Exception, data: bytes) -> PictureError:
    """The PictureError for what a decoder raised."""
    if "truncated" in str(error).lower() or isinstance(error, EOFError) or _is_cut_short(data):
        return PictureError(TRUNCATED, f"the file ends early, after {len(data):,} bytes")
    if isinstance(error, UnidentifiedImageError):
        return PictureError(UNREADABLE, f"not a {READABLE} picture")
    return PictureError(UNREADABLE, str(error) or type(error).__name__)


def _is_cut_short(data: bytes) -> bool:
    """Whether a file that failed lacks the end that its format prescribes."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; a damaged EXIF block counts as upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # what is wrong in the remarks on a picture must not lose the picture
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode to RGB; deep greys are rescaled to 8 bit, transparency is composited at full resolution."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGB", layer.size, background)
        canvas.paste(layer, mask=layer.getchannel("A"))
        return canvas
    # A copy even where the mode is right already: the opened image is closed when its file is done with.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _eight_bits(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Grey of 16 or 32 bits or of floats, (H, W), to 0..255 by the range of its type.

    65535 becomes 255. Floats (and 32-bit integers) do not say their range: 0..1, 0..255 and 0..65535 are
    tried in this order, the first that holds all values is taken; values beyond are stretched.
    """
    if mode not in ("I", "F"):
        return np.round(values / np.float32(257)).astype(np.uint8)
    grey = values.astype(np.float32)
    if not np.isfinite(grey).all():
        raise PictureError(UNREADABLE, "it holds values that are infinite or not numbers")
    low, high = float(grey.min()), float(grey.max())
    ranges = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    top = next((top for top in ranges if low >= 0 and high <= top), None)
    if top is None:
        grey, top = grey - np.float32(low), max(high - low, 1e-6)
    return np.round(grey * np.float32(255.0 / top)).astype(np.uint8)


__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Decoded",
    "PictureError",
    "decode_picture",
    "decode_scaled",
    "looks_like_picture",
]
