"""Decode the bytes of a picture to an upright RGB image, whatever its format and mode.

The content decides the format, not the suffix. The header is checked before any pixel is decoded, so a small file
that declares a huge picture costs nothing. Every failure becomes a `PictureError` with a plain reason.
"""

import contextlib
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, UnidentifiedImageError

from tunit.data.decoding.bounds import MAX_PIXELS, REMEDY, memory_detail, memory_for
from tunit.data.decoding.colours import Colour, Colours, strips
from tunit.data.decoding.levels import NoLevelsError
from tunit.data.decoding.metadata import significant_bits, without_metadata
from tunit.data.decoding.opacity import Opacity
from tunit.data.decoding.opening import (
    FORMATS,
    QUIET_DECODERS,
    READABLE,
    NoReaderError,
    is_animated,
    looks_like_picture,
    open_picture,
    orientation_of,
    quiet_pillow,
    scale_transparent_value,
    upright,
)
from tunit.errors import TunitError

EMPTY = "empty"
UNREADABLE = "unreadable"
TRUNCATED = "truncated"
TOO_SMALL = "too small"
TOO_LARGE = "too large"
TOO_SLOW = "too slow"
BOMB = "decompression bomb"

# The EXIF orientations in which width and height are swapped, in which the first stored pixel belongs at the right,
# and in which it belongs at the bottom.
_SWAPPED, _FROM_RIGHT, _FROM_BELOW = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
# The memory, in bytes per pixel, of decoders that need far more than the decoded picture takes.
_MEMORY = {"WEBP": 17, "AVIF": 17, "HEIF": 17}
# Pixels; larger pictures are reduced part by part before anything else is done with them.
_LARGE = 1 << 24


class PictureError(TunitError):
    """One picture cannot be used. `reason` is one of a few fixed phrases, `detail` says what exactly is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both arguments, so that it survives pickling between processes
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, possibly at a fraction of its size."""

    image: Image.Image  # mode RGB, upright
    # Left, top, right, bottom of the picture inside `image`. A JPEG at 1/8 has a pixel for each block of 8 pixels,
    # and the last block may be incomplete; resizing all of `image` would distort the picture.
    box: tuple[float, float, float, float]
    size: tuple[int, int]  # width and height of the whole picture, upright
    opacity: Opacity | None = None  # if it was asked for, and the picture is not all opaque
    animated: bool = False  # whether the file holds more pictures, of which this is the first


def decode_picture(
    data: bytes,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
    upright: bool = True,
) -> Image.Image:
    """Decode one picture in full: mode RGB, EXIF orientation applied, transparency laid on `background`.

    data: the whole file. An animation gives its first frame.
    max_pixels, min_side: limits of the declared size, checked before decoding.
    upright: False ignores the EXIF orientation and returns the pixels as they are stored.

    Raises PictureError: `empty`, `unreadable`, `truncated`, `too small`, `too large` (for the memory) or
    `decompression bomb`.
    """
    return _decode(data, _Wanted(background, max_pixels, None, min_side, upright)).image


def decode_scaled(
    data: bytes,
    at_least: int,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
    opacity: bool = False,
) -> Decoded:
    """As `decode_picture`, but a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster.

    at_least: a target side in pixels. Both sides stay at least twice as long, so that an antialiased resize to the
        target still has enough detail. Other formats are decoded in full. All limits, and the size that is returned,
        are those of the full picture.
    opacity: also return the opacity of each pixel.
    """
    return _decode(data, _Wanted(background, max_pixels, at_least, min_side, upright=True, opacity=opacity))


@dataclass(frozen=True)
class _Wanted:
    """How to decode one picture."""

    background: Colour
    max_pixels: int
    at_least: int | None
    min_side: int
    upright: bool
    opacity: bool = False


def _decode(data: bytes, wanted: _Wanted) -> Decoded:
    if not data:
        raise PictureError(EMPTY, "0 bytes")
    try:
        try:
            return _decode_once(data, wanted, {})
        except (PictureError, Image.DecompressionBombError, MemoryError):
            raise
        except Exception:  # perhaps because metadata is damaged, or larger than Pillow accepts
            bare = without_metadata(data)
            if bare is None:
                raise
            return _decode_once(bare.data, wanted, bare.info)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(TOO_LARGE, memory_detail(wanted.max_pixels)) from None
    except Image.DecompressionBombError:
        detail = f"its header declares more than {2 * wanted.max_pixels:,} pixels: {REMEDY}"
        raise PictureError(BOMB, detail) from None
    except Exception as error:  # a hostile file can make a decoder raise anything; packing must go on
        raise _explain(error, data, wanted.max_pixels) from None


def _decode_once(data: bytes, wanted: _Wanted, info: dict[str, Any]) -> Decoded:
    """Decode `data`. info: entries for Pillow's `info` from metadata that was removed from `data`."""
    with contextlib.ExitStack() as stack:
        with quiet_pillow(wanted.max_pixels):
            image = stack.enter_context(open_picture(data))
            image.info.update(info)
            size = image.size
            _check_size(image, wanted.max_pixels, wanted.min_side)
            animated = is_animated(image)
            drafted = wanted.at_least and image.draft(image.mode, (2 * wanted.at_least,) * 2)
            if image.format not in QUIET_DECODERS:
                image.load()
        image.load()  # outside of the lock, so that threads can decode at the same time
        with quiet_pillow(wanted.max_pixels):
            orientation = orientation_of(image) if wanted.upright else 1
        shown = drafted[1][2:] if drafted else size
        if image.format == "PNG" and image.mode.startswith("I"):
            image.info["significant bits"] = significant_bits(data)
        picture, alpha, factor = _layers(image, wanted)
        picture = upright(picture, orientation)
        opacity = Opacity.of(upright(alpha, orientation)) if wanted.opacity and alpha else None
    decoded = _decoded(picture, (shown[0] / factor, shown[1] / factor), size, orientation)
    return replace(decoded, opacity=opacity, animated=animated)


def _layers(image: Image.Image, wanted: _Wanted) -> tuple[Image.Image, Image.Image | None, int]:
    """A loaded picture in RGB, and its opacity (at full size) if that is wanted and the picture has any.

    If a small picture is wanted, a large one is reduced part by part to 1/factor of its size.
    """
    colours = Colours.of(image)
    factor = 1
    if wanted.at_least and image.width * image.height > _LARGE:
        factor = max(1, min(image.size) // (4 * wanted.at_least))
    if factor == 1:
        return (*colours.layers(image, wanted.background), 1)
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    whole = Image.new("L", image.size) if wanted.opacity and image.has_transparency_data else None
    top = below = 0
    for strip in strips(image, factor):
        colour, alpha = colours.layers(strip, wanted.background)
        reduced = colour.reduce(factor)
        small.paste(reduced, (0, top))
        if whole is not None and alpha is not None:
            whole.paste(alpha, (0, below))
        top, below = top + reduced.height, below + strip.height
    return small, whole, factor


def layers_of(image: Image.Image, background: Colour) -> tuple[Image.Image, Opacity | None]:
    """A picture that the caller has opened with Pillow, upright and in sRGB, with its opacity, as if decoded here.

    Raises PictureError if it cannot be read, or its values are not finite.
    """
    try:
        scale_transparent_value(image)
        image.load()
        shown, alpha = Colours.of(image).layers(image, background)
        orientation = orientation_of(image)
        return upright(shown, orientation), Opacity.of(alpha and upright(alpha, orientation))
    except Exception as error:  # Pillow decodes a file only now, and a damaged file can fail in any way
        raise PictureError(UNREADABLE, str(error) or type(error).__name__) from None


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height, upright, from the header alone. Raises PictureError."""
    try:
        with quiet_pillow(MAX_PIXELS), open_picture(data) as image:
            size = image.size
            return size[::-1] if orientation_of(image) in _SWAPPED and image.format != "TIFF" else size
    except Image.DecompressionBombError:
        raise PictureError(BOMB, "its header declares too many pixels") from None
    except Exception as error:
        raise _explain(error, data, MAX_PIXELS) from None


def _decoded(
    image: Image.Image, shown: tuple[float, float], size: tuple[int, int], orientation: int
) -> Decoded:
    """The record of a picture that was turned upright.

    shown: width and height of the picture inside `image`, before turning; fractions of pixels if it was scaled.
    size: width and height of the file, before turning.
    """
    if orientation in _SWAPPED:
        shown, size = shown[::-1], size[::-1]
    left = image.width - shown[0] if orientation in _FROM_RIGHT else 0.0
    top = image.height - shown[1] if orientation in _FROM_BELOW else 0.0
    return Decoded(image, (left, top, left + shown[0], top + shown[1]), size)


def _check_size(image: Image.Image, max_pixels: int, min_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        detail = f"{width} x {height} pixels, at most {max_pixels:,} in all allowed: {REMEDY}"
        raise PictureError(BOMB, detail)
    memory = width * height * _MEMORY.get(image.format or "", 0)
    if memory > memory_for(max_pixels):
        detail = f"{width} x {height} pixels as {image.format} take {memory / 2**30:.1f} GiB to decode"
        raise PictureError(
            TOO_LARGE, f"{detail}, at most {memory_for(max_pixels) / 2**30:.1f} allowed: {REMEDY}"
        )
    if min(image.size) < min_side:
        raise PictureError(TOO_SMALL, f"{width} x {height}, at least {min_side} wanted")


def _explain(error: Exception, data: bytes, max_pixels: int) -> PictureError:
    """The PictureError for what a decoder raised."""
    if isinstance(error, NoLevelsError | NoReaderError):
        return PictureError(UNREADABLE, str(error))
    if "out of memory" in str(error).lower():
        return PictureError(TOO_LARGE, memory_detail(max_pixels))
    if "truncated" in str(error).lower() or isinstance(error, EOFError) or _is_cut_short(data):
        return PictureError(TRUNCATED, f"the file ends early, after {len(data):,} bytes")
    if isinstance(error, UnidentifiedImageError):
        return PictureError(UNREADABLE, f"not a {READABLE} picture")
    said = error.args[0] if error.args else ""
    text = said.decode("latin-1") if isinstance(said, bytes) else str(error)
    return PictureError(UNREADABLE, text or type(error).__name__)


def _is_cut_short(data: bytes) -> bool:
    """Whether a file that could not be decoded lacks the end marker of its format."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "READABLE",
    "Decoded",
    "PictureError",
    "decode_picture",
    "decode_scaled",
    "layers_of",
    "looks_like_picture",
    "orientation_of",
    "size_of",
]
