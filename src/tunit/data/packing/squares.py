"""Turn a found picture into a square: it is read, decoded and fitted in a worker process, within limits."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunit.data.decoding.bounds import (
    ALONE_BYTES,
    ALONE_PIXELS,
    MAX_PIXELS,
    memory_detail,
    memory_for,
    seconds_for,
    time_detail,
)
from tunit.data.decoding.decode import TOO_LARGE, TOO_SLOW, UNREADABLE, PictureError, decode_scaled, size_of
from tunit.data.decoding.opacity import Opacity
from tunit.data.decoding.worker_process import bounded, is_worker
from tunit.data.decoding.workers import WorkerLostError, in_worker
from tunit.data.finding.cropped import Cropped
from tunit.data.finding.found import PictureSource
from tunit.data.packing.fit import fit_picture


@dataclass(frozen=True)
class Squaring:
    """How pictures are checked and become squares."""

    size: int  # pixels, both sides
    fit: str = "stretch"  # "stretch", "crop" or "pad"
    background: tuple[int, int, int] = (255, 255, 255)  # behind transparency, and around padded pictures
    min_side: int = 1  # a picture with a shorter side is refused
    # A picture that declares more is refused before decoding; the limits of memory and time depend on it, too.
    max_pixels: int = MAX_PIXELS
    opacity: bool = False  # whether to return the file's opacity, too
    seconds: float | None = None  # of CPU time for a picture; None: from max_pixels
    memory: int | None = None  # bytes for a picture; None: from max_pixels


@dataclass(frozen=True)
class Fitted:
    """A picture as a square."""

    pixels: NDArray[np.uint8]  # (size, size, 3)
    picture_size: tuple[int, int]  # width and height of the whole picture, upright, before it was fitted
    opacity: Opacity | None = None
    animated: bool = False  # whether it is the first picture of an animation


def fitted(source: PictureSource, how: Squaring) -> Fitted:
    """The square of one picture. Raises PictureError if it cannot be used."""
    try:
        return in_worker(_fitted, (source, how))
    except WorkerLostError as error:
        raise _lost(error, how.seconds or seconds_for(how.max_pixels)) from None


def picture_size(source: PictureSource) -> tuple[int, int]:
    """Width and height of the whole picture, upright, by its header. Raises PictureError."""
    try:
        return in_worker(_picture_size, source)
    except WorkerLostError as error:
        raise _lost(error, seconds_for(MAX_PIXELS)) from None


def _fitted(task: tuple[PictureSource, Squaring]) -> Fitted:
    source, how = task
    if not is_worker():
        how = replace(how, max_pixels=min(how.max_pixels, ALONE_PIXELS))
    try:
        data = _read(source, how.max_pixels)
        _check_alone(data)
        seconds, memory = how.seconds or seconds_for(how.max_pixels), how.memory or memory_for(how.max_pixels)
        with bounded(seconds, memory):
            decoded = decode_scaled(
                data,
                how.size,
                background=how.background,
                max_pixels=how.max_pixels,
                min_side=how.min_side,
                opacity=how.opacity,
            )
            pixels = fit_picture(decoded.image, how.size, how.fit, how.background, decoded.box)
    except MemoryError:
        raise PictureError(TOO_LARGE, memory_detail(how.max_pixels)) from None
    return Fitted(pixels, decoded.size, decoded.opacity, decoded.animated)


def _picture_size(source: PictureSource) -> tuple[int, int]:
    try:
        data = source.read()
        _check_alone(data)
        with bounded(seconds_for(MAX_PIXELS), memory_for(MAX_PIXELS)):
            return size_of(data)
    except MemoryError:
        raise PictureError(TOO_LARGE, memory_detail(MAX_PIXELS)) from None


def _read(source: PictureSource, max_pixels: int) -> bytes:
    content = source.content
    if isinstance(content, Cropped):  # its read() decodes the whole picture, so it needs the limit
        content = replace(content, max_pixels=max_pixels)
    return content.read()


def _check_alone(data: bytes) -> None:
    """Limit the size of the file if nothing else limits decoding. Raises PictureError."""
    if not is_worker() and len(data) > ALONE_BYTES:
        detail = (
            f"{len(data):,} bytes, at most {ALONE_BYTES:,} are allowed if no worker process can be started"
        )
        raise PictureError(TOO_LARGE, detail)


def _lost(error: WorkerLostError, seconds: float) -> PictureError:
    if error.slow:
        return PictureError(TOO_SLOW, time_detail(seconds))
    return PictureError(UNREADABLE, "decoding it crashed the process")


__all__ = ["Fitted", "Squaring", "fitted", "picture_size"]
