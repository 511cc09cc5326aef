"""Give G's squares the size, proportions, transparency and greyness of their sources."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from tunit.data.packing.fit import central_square
from tunit.data.packing.ordered_threads import map_in_threads
from tunit.translation.engine import Drawn
from tunit.translation.inputs import Picture, Resize, Square, from_square, size_of_result

ANIMATED = "animated"  # a key in the `info` of a result whose source is the first picture of an animation
MOST_PIXELS = 1 << 27  # of finished results that wait in memory: 400 MB without transparency
_GREY = 2 / 127.5  # channels of a grey picture may differ by two levels of 255, because of colour profiles


def resized_results(
    drawn: Iterator[Drawn], resize: Resize, fit: str, *, restore_grey: bool = False, ahead: int
) -> Iterator[tuple[Picture, list[Image.Image]]]:
    """Yield each source with its results. Results are resized in threads, for up to `ahead` sources in advance, and
    for fewer if their results together have more than MOST_PIXELS.

    restore_grey: results of grey sources are grey, of mode L.
    """

    def finish(item: Drawn) -> tuple[Picture, list[Image.Image]]:
        """Convert the pixels of one source's results to pictures."""
        picture, square, pixels_of_results = item
        results = [from_square(pixels, square, resize) for pixels in pixels_of_results]
        if restore_grey and is_grey(square, fit):
            results = [result.convert("L") for result in results]
        if square.opacity is not None:
            alpha = square.opacity.image()
            results = [with_transparency(result, alpha, fit) for result in results]
        if square.animated:
            for result in results:
                result.info[ANIMATED] = True
        return picture, results

    if resize is None:
        yield from map(finish, drawn)
    else:  # enlarging takes so long that threads are worth it

        def pixels_of(item: Drawn) -> int:
            """The number of pixels of one source's results."""
            width, height = size_of_result(item[1], resize)
            return width * height * len(item[2])

        yield from map_in_threads(finish, drawn, ahead=ahead, weight=pixels_of, most=MOST_PIXELS)


def is_grey(square: Square, fit: str) -> bool:
    """Whether the square of a picture has no colours. Transparent pixels do not count."""
    left, upper, right, lower = square.inner
    opaque = square.x[:, upper:lower, left:right]
    if square.opacity is not None:
        alpha = _resized(square.opacity.image(), (right - left, lower - upper), fit)
        opaque = opaque[:, torch.from_numpy(np.asarray(alpha) == 255)]
    return opaque.numel() > 0 and bool((opaque - opaque[:1]).abs().max() <= _GREY)


def with_transparency(result: Image.Image, alpha: Image.Image, fit: str) -> Image.Image:
    """A result (RGB or L) with the transparency of its source; with `fit` "crop", of its central square."""
    result = result.copy()
    result.putalpha(_resized(alpha, result.size, fit))
    return result


def _resized(alpha: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    """The opacity of the part of a picture that the networks saw, resized."""
    box = (0.0, 0.0, float(alpha.width), float(alpha.height))
    if fit == "crop":
        box = central_square(box)
    return alpha.resize(size, Image.Resampling.BILINEAR, box=box)
