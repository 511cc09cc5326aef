"""From any picture that the translator accepts to the square that the networks see, and back to the result.

A picture is a path, a Pillow image, a uint8 array (H, W, 3), a float tensor (3, S, S) in [-1, 1], or an item of
`find_pictures`. A path may also name a folder, an archive or a list, and then stands for all its pictures.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tunit.data.batching.augment import to_float
from tunit.data.decoding.decode import MAX_PIXELS, UNREADABLE, PictureError, layers_of
from tunit.data.decoding.opacity import Opacity
from tunit.data.finding.archives import DUPLICATE
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile, PictureSource, reading_order
from tunit.data.finding.left_out import LeftOut
from tunit.data.packing.fit import FIT_MODES, fit_picture, padded_box
from tunit.data.packing.on_ray import ray_map_in_chunks
from tunit.data.packing.ordered_threads import map_in_threads
from tunit.data.packing.squares import Squaring, fitted
from tunit.errors import ConfigError, DataError, StoreError
from tunit.files.paths import expand_home, path_or_url
from tunit.printing import printable

Picture: TypeAlias = str | Path | Image.Image | NDArray[np.uint8] | Tensor | PictureSource
PicturesGiven: TypeAlias = Picture | Iterable[Picture]
Report: TypeAlias = Callable[[LeftOut], None]
Resize: TypeAlias = str | int | None

ORIGINAL = "original"
_CHUNK = 16  # pictures in a task of a cluster
MAX_SIDE = 16_384  # the largest size, in pixels, that can be requested for a result
_TOLERANCE = 1e-3  # because of rounding, values may lie this far outside of [-1, 1]


@dataclass(frozen=True)
class Square:
    """A picture as the input of the networks, and what is needed to give a result the shape of the picture again."""

    x: Tensor  # (3, S, S) float32 in [-1, 1], on the CPU
    inner: tuple[int, int, int, int]  # left, upper, right, lower: the part of the square that is not padding
    shown: tuple[int, int]  # width and height of what the square shows, in the picture's own pixels
    # The opacity of the whole picture, if it was requested and if the picture has transparent parts.
    opacity: Opacity | None = None
    animated: bool = False  # whether it is the first picture of an animation
    name: str = ""  # of the picture, as `open_pictures` gives it


def open_pictures(
    pictures: PicturesGiven, report: Report | None
) -> tuple[Iterator[tuple[str, Picture]], bool]:
    """An iterator over every picture with its name; and whether `pictures` was one single picture.

    report: called for each file of a folder, archive or list that cannot be used; with None, DataError is raised.
    """
    if isinstance(pictures, str | Path):
        place = path_or_url(pictures)
        found = list(_open_path(place, report))
        is_single = isinstance(place, Path) and [item.content for item in found] == [DiskFile(place)]
        return ((picture.name, picture) for picture in found), is_single
    if isinstance(pictures, PictureSource | Image.Image) or getattr(pictures, "ndim", 0) == 3:
        return _each([cast(Picture, pictures)], report), True
    # Bytes, and files that are open, could be iterated over, too, by numbers or by lines.
    is_data = isinstance(pictures, bytes | bytearray | memoryview | io.IOBase)
    if is_data or not isinstance(pictures, Iterable) or getattr(pictures, "ndim", 4) != 4:
        raise DataError(_no_picture(pictures))
    return _each(pictures, report), False


def _each(pictures: Iterable[Picture], report: Report | None) -> Iterator[tuple[str, Picture]]:
    for number, picture in enumerate(pictures):
        if isinstance(picture, str | Path):
            try:
                found = list(_open_path(picture, report))
            except DataError as error:  # there is no such path, or no picture in it
                if report is None or isinstance(error, StoreError):
                    raise
                report(LeftOut(str(picture), UNREADABLE, str(error)))
                continue
            yield from ((item.name, item) for item in found)
        else:
            yield picture.name if isinstance(picture, PictureSource) else f"picture {number}", picture


def _open_path(place: Path | str, report: Report | None) -> Iterator[PictureSource]:
    found = find_pictures(place)
    for item in found.left_out:
        leave_out(item, report)
    # An archive is read in the order that is fastest; a folder in the order of names.
    yield from (found.pictures[i] for i in reading_order(found.pictures))


def leave_out(item: LeftOut, report: Report | None) -> None:
    """Pass a file that cannot be used to `report`. Without `report`, raise DataError, except for repeated
    pictures.
    """
    if report is not None:
        report(item)
    elif item.reason != DUPLICATE:
        name, why = printable(item.name), printable(f"{item.reason}: {item.detail}")
        raise DataError(f"{name} cannot be used ({why}): repair it or leave it out")


def squares(
    pictures: Iterable[tuple[str, Picture]],
    size: int,
    fit: str,
    background: tuple[int, int, int],
    report: Report | None,
    *,
    ahead: int = 1,
    max_pixels: int = MAX_PIXELS,
    opacity: bool = False,
    engine: str = "local",
) -> Iterator[tuple[Picture, Square]]:
    """Every picture with its square, in order; pictures that cannot be decoded are passed to `report`.

    ahead: how many files may be read and decoded in advance, in threads. The caller's own images and arrays are
        taken one at a time, when they are needed.
    max_pixels: a file with more pixels is refused before decoding. opacity: also return the opacity.
    engine: "ray" decodes files on a cluster.
    """
    how = Squaring(size, fit, background, max_pixels=max_pixels, opacity=opacity)
    square_of = partial(_square_of, how)
    for are_files, items in groupby(pictures, lambda item: isinstance(item[1], PictureSource)):
        found: Iterator[tuple[Picture, Square | LeftOut]]
        if are_files and engine == "ray":
            found = ray_map_in_chunks(square_of, items, _CHUNK)
        elif are_files:
            found = map_in_threads(square_of, items, ahead=ahead)
        else:
            found = map(square_of, items)
        for picture, square in found:
            if isinstance(square, LeftOut):
                leave_out(square, report)
            else:
                yield picture, square


def _square_of(how: Squaring, item: tuple[str, Picture]) -> tuple[Picture, Square | LeftOut]:
    """The square of one picture, or the reason why there is none."""
    name, picture = item
    try:
        return picture, replace(to_square(picture, how), name=name)
    except PictureError as error:
        return picture, LeftOut(name, error.reason, error.detail)
    except MemoryError:
        return picture, LeftOut(name, UNREADABLE, "too large for the memory")


def to_square(picture: Picture, how: Squaring) -> Square:
    """The square of one picture, made as in training: the input of the networks. A tensor is used as it is.

    Raises PictureError if a file cannot be decoded, DataError if the value is not a picture.
    """
    size, opacity, animated = how.size, None, False
    if isinstance(picture, Tensor):
        whole = (0, 0, size, size)
        return Square(_check_tensor(picture, size), whole, (size, size))
    if isinstance(picture, str | Path):
        picture = PictureSource(str(picture), None, DiskFile(expand_home(picture)))
    if isinstance(picture, PictureSource):
        square = fitted(picture, how)
        pixels, picture_size = square.pixels, square.picture_size
        opacity, animated = square.opacity, square.animated
    else:
        if isinstance(picture, Image.Image):
            image, opacity = _layers_of(picture, how.background)
        else:
            image = Image.fromarray(_check_array(picture))
        pixels, picture_size = fit_picture(image, size, how.fit, how.background), image.size
    x = to_float(torch.from_numpy(pixels)[None])[0]
    shown = (min(picture_size), min(picture_size)) if how.fit == "crop" else picture_size
    inner = padded_box(picture_size, size) if how.fit == "pad" else (0, 0, size, size)
    return Square(x, inner, shown, opacity, animated)


def from_square(pixels: NDArray[np.uint8], square: Square, resize: Resize) -> Image.Image:
    """The result for `square` as a picture with the proportions of its source.

    pixels: (S, S, 3), the result of the networks. Padding is removed.
    resize: None leaves S as the longer side; "original" restores the size of the picture (of its central square
        after "crop"); a number is the length of the longer side, with the same proportions.
    """
    image = Image.fromarray(pixels).crop(square.inner)
    if resize is None:
        return image
    size = size_of_result(square, resize)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def size_of_result(square: Square, resize: str | int) -> tuple[int, int]:
    """Width and height of the result for `square`, resized as in `from_square`."""
    if not isinstance(resize, int):
        return square.shown
    width, height = square.shown
    longer = max(width, height)
    return max(1, round(width * resize / longer)), max(1, round(height * resize / longer))


def check_fit(fit: str) -> str:
    """`fit`, if it is valid. Raises ConfigError."""
    if fit not in FIT_MODES:
        raise ConfigError(f"fit {fit!r} is unknown: use one of {', '.join(FIT_MODES)}")
    return fit


def resize_wanted(resize: Resize, restore_size: bool) -> Resize:
    """`resize`, or "original" if `restore_size` is True. Raises ConfigError if both are given."""
    if not restore_size:
        return resize
    if resize not in (None, ORIGINAL):
        raise ConfigError(f"size {resize!r} was given, and the source's own size, too: give one of them")
    return ORIGINAL


def check_resize(resize: Resize) -> Resize:
    """None, "original" or a number of pixels, which may be text. Raises ConfigError."""
    if resize is None or resize == ORIGINAL:
        return resize
    try:
        side = int(resize)
        if isinstance(resize, bool) or (not isinstance(resize, str) and side != resize):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"size {resize!r} is not a size: use {ORIGINAL} or a number of pixels") from None
    if not 1 <= side <= MAX_SIDE:
        raise ConfigError(f"size {side} is out of range: use from 1 to {MAX_SIDE} pixels")
    return side


def _layers_of(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, Opacity | None]:
    if 0 in image.size:
        raise DataError(
            f"a Pillow image of {image.width} x {image.height} pixels is empty: give one with pixels"
        )
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise DataError(
            f"the range of values of a Pillow image of mode {image.mode} is unknown: give its path, or mode RGB"
        )
    return layers_of(image, background)


def _check_array(picture: object) -> NDArray[np.uint8]:
    if (
        not isinstance(picture, np.ndarray)
        or picture.ndim != 3
        or picture.shape[2] != 3
        or 0 in picture.shape
    ):
        raise DataError(_no_picture(picture))
    if picture.dtype != np.uint8:
        raise DataError(
            f"the range of values of an array of {picture.dtype} is unknown: give uint8 (H, W, 3), 0 to 255"
        )
    return np.ascontiguousarray(picture)


def _check_tensor(x: Tensor, size: int) -> Tensor:
    if x.shape != (3, size, size) or not x.is_floating_point():
        wanted = f"a float tensor must be (3, {size}, {size}) for this model; give other sizes as an array or image"
        raise DataError(f"a {x.dtype} tensor of shape {tuple(x.shape)} does not fit: {wanted}")
    x = x.detach().cpu().float()
    if not bool((x.abs() <= 1 + _TOLERANCE).all()):  # false for NaN, too
        raise DataError(f"a tensor holds values from {x.min():g} to {x.max():g}: scale pictures to [-1, 1]")
    return x


def _no_picture(value: object) -> str:
    shape = getattr(value, "shape", None)
    what = type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
    return (
        f"a {what} is not a picture: give a path, a Pillow image, a uint8 array (H, W, 3), or a float tensor "
        "(3, S, S) in [-1, 1]"
    )
