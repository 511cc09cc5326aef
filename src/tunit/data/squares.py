"""A picture that was found, to its square of pixels: read, decoded and fitted, in a worker process and bounded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunit.data.decode import (
    MAX_PIXELS,
    MEMORY,
    TOO_LARGE,
    TOO_SLOW,
    UNREADABLE,
    PictureError,
    decode_scaled,
    memory_detail,
    size_of,
)
from tunit.data.fit import fit_picture
from tunit.data.sources import PictureSource
from tunit.data.workers import WorkerLostError, bounded, in_worker

SECONDS = 10.0  # of CPU time for one picture of up to MAX_PIXELS; a photograph takes a hundredth of one
_LEAST_MEMORY = 1 << 28  # bytes, however few pixels are allowed


@dataclass(frozen=True)
class Squaring:
    """How pictures are checked and become squares."""

    size: int  # pixels, both sides
    fit: str = "stretch"  # "stretch", "crop" or "pad"
    background: tuple[int, int, int] = (255, 255, 255)  # behind transparency, and around padded pictures
    min_side: int = 1  # a picture with a shorter side is refused
    max_pixels: int = (
        MAX_PIXELS  # one that declares more is refused undecoded; memory and time follow from it
    )


@dataclass(frozen=True)
class Fitted:
    """A picture as a square."""

    pixels: NDArray[np.uint8]  # (size, size, 3)
    own: tuple[int, int]  # width and height of the file, upright


def fitted(source: PictureSource, how: Squaring) -> Fitted:
    """The square of one picture. Raises PictureError where it cannot be used."""
    try:
        return in_worker(_fitted, (source, how))
    except WorkerLostError as error:
        raise _lost(error, how.max_pixels) from None


def file_size(source: PictureSource) -> tuple[int, int]:
    """Width and height of a picture, upright, by its header. Raises PictureError."""
    try:
        return in_worker(_file_size, source)
    except WorkerLostError as error:
        raise _lost(error, MAX_PIXELS) from None


def _fitted(task: tuple[PictureSource, Squaring]) -> Fitted:
    source, how = task
    try:
        data = source.read()
        with bounded(_seconds(how.max_pixels), _memory(how.max_pixels)):
            decoded = decode_scaled(
                data,
                how.size,
                background=how.background,
                max_pixels=how.max_pixels,
                min_side=how.min_side,
            )
            pixels = fit_picture(decoded.image, how.size, how.fit, how.background, decoded.box)
    except MemoryError:
        raise PictureError(TOO_LARGE, memory_detail(how.max_pixels)) from None
    return Fitted(pixels, decoded.size)


def _file_size(source: PictureSource) -> tuple[int, int]:
    try:
        data = source.read()
        with bounded(SECONDS, _memory(MAX_PIXELS)):
            return size_of(data)
    except MemoryError:
        raise PictureError(TOO_LARGE, memory_detail(MAX_PIXELS)) from None


def _seconds(max_pixels: int) -> float:
    return SECONDS * max(1.0, max_pixels / MAX_PIXELS)


def _memory(max_pixels: int) -> int:
    return max(_LEAST_MEMORY, MEMORY * max_pixels)


def _lost(error: WorkerLostError, max_pixels: int) -> PictureError:
    if error.slow:
        return PictureError(TOO_SLOW, f"decoding it takes more than {_seconds(max_pixels):.0f} s of CPU time")
    return PictureError(UNREADABLE, "decoding it crashed the process")


__all__ = ["SECONDS", "Fitted", "Squaring", "file_size", "fitted"]
