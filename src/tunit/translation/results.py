"""Turn the squares that G draws into pictures with the size, proportions and transparency of their sources."""

from collections.abc import Iterator

from PIL import Image

from tunit.data.overlap import map_in_threads
from tunit.translation.engine import Drawn
from tunit.translation.inputs import Picture, Resize, from_square


def finished(
    drawn: Iterator[Drawn], resize: Resize, fit: str, *, ahead: int
) -> Iterator[tuple[Picture, list[Image.Image]]]:
    """Each source with its results, lazily; they are enlarged in threads, up to `ahead` sources in advance."""

    def finish(item: Drawn) -> tuple[Picture, list[Image.Image]]:
        picture, square, pixels_of_results = item
        results = [from_square(pixels, square, resize) for pixels in pixels_of_results]
        if square.opacity is not None:
            alpha = square.opacity.image()
            results = [with_transparency(result, alpha, fit) for result in results]
        return picture, results

    if resize is None:
        yield from map(finish, drawn)
    else:  # enlarging takes so long that threads are worth it
        yield from map_in_threads(finish, drawn, ahead=ahead)


def with_transparency(result: Image.Image, alpha: Image.Image, fit: str) -> Image.Image:
    """A result (RGB) with the transparency of its source: RGBA. After `fit` "crop" it shows the central square."""
    box = (0.0, 0.0, float(alpha.width), float(alpha.height))
    if fit == "crop":
        side = min(alpha.size)
        left, top = (alpha.width - side) / 2, (alpha.height - side) / 2
        box = left, top, left + side, top + side
    result = result.copy()
    result.putalpha(alpha.resize(result.size, Image.Resampling.BILINEAR, box=box))
    return result
