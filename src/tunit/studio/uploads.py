"""Uploaded pictures: their size is checked before they are decoded, and they are decoded in a separate process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import FormData, UploadFile

from tunit.data.batching.augment import to_uint8
from tunit.data.decoding.decode import PictureError
from tunit.data.finding.found import GivenBytes, PictureSource
from tunit.data.packing.squares import Squaring
from tunit.errors import ConfigError, DataError
from tunit.printing import printable
from tunit.translation.inputs import Square, from_square, to_square
from tunit.translation.translator import Translator

LONGEST_NAME = 80
_DECODING = threading.BoundedSemaphore(2)  # at a time, because each may take several bytes per allowed pixel
_LONG = threading.Lock()


@dataclass(frozen=True)
class Prepared:
    """The square of a picture, and what is needed to show it."""

    pixels: NDArray[np.uint8]  # (S, S, 3)
    square: Square

    @property
    def shown(self) -> Image.Image:
        """The picture without padding."""
        return from_square(self.pixels, self.square, None)


async def picture_of(form: FormData, name: str) -> PictureSource | None:
    """A file in a form; None if there is none. Raises ConfigError if the field is text."""
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, UploadFile):
        raise ConfigError(f"{name} is a text: give the file of a picture")
    title = printable(value.filename or "the picture")
    title = title if len(title) <= LONGEST_NAME else "..." + title[-LONGEST_NAME:]
    return PictureSource(title, None, GivenBytes(await value.read()))


@contextmanager
def decoding() -> Iterator[None]:
    """A context for decoding an uploaded picture; only a few may be decoded at a time, to limit the memory."""
    with _DECODING:
        yield


@contextmanager
def long_work() -> Iterator[None]:
    """A context for decoding in a long work, such as a walk: only one at a time, so that a place stays for others."""
    with _LONG:
        yield


def prepared(source: PictureSource, translator: Translator) -> Prepared:
    """An uploaded picture as a square. Raises DataError if it cannot be used."""
    model = translator.model
    how = Squaring(model.image_size, model.fit, model.background, max_pixels=translator.max_pixels)
    try:
        with decoding():
            square = to_square(source, how)
    except PictureError as error:
        raise DataError(f"{source.name} cannot be used ({error}): take another picture") from None
    return Prepared(to_uint8(square.x[None])[0].numpy(), square)
