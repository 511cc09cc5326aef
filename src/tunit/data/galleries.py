"""Pictures side by side: grids, the gallery of a domain, and the matrix of sources and references.

All take and return Pillow images of mode RGB. Pictures of different sizes are centred in equal cells.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tunit.errors import ConfigError, DataError
from tunit.printing import numbered

GAP = 2  # pixels between pictures
CAPTION = 18  # height of a caption strip
BACKGROUND, INK = (255, 255, 255), (0, 0, 0)
SMALL = 64  # pixels; when a picture up to this side is enlarged, its pixels stay visible
VISIBLE = 128  # pixels; small pictures are enlarged to about this side


def enlargement(side: int) -> int:
    """How many times pictures of `side` pixels are enlarged in a gallery."""
    return max(1, VISIBLE // side) if side <= SMALL else 1


def enlarged(image: Image.Image, times: int) -> Image.Image:
    """The image enlarged by a factor: an image up to 64 px by repeating pixels, a larger one by interpolation."""
    if times < 1:
        raise ConfigError(f"enlarge is {times}: take a whole number from 1")
    if times == 1:
        return image
    method = Image.Resampling.NEAREST if max(image.size) <= SMALL else Image.Resampling.BICUBIC
    return image.resize((image.width * times, image.height * times), method)


def grid(images: Sequence[Image.Image], columns: int, *, enlarge: int = 1, gap: int = GAP) -> Image.Image:
    """The images row by row, `columns` in a row (fewer if there are not that many)."""
    if not images:
        raise DataError("a grid needs pictures, but none were given: give at least one")
    if columns < 1:
        raise ConfigError(f"a grid of {columns} columns cannot be drawn: take at least 1")
    return _lay_out([enlarged(image, enlarge) for image in images], min(columns, len(images)), gap)


def gallery(
    images: Sequence[Image.Image], domain: int, size: int, *, columns: int = 6, enlarge: int = 1
) -> Image.Image:
    """Pictures of one domain, under a caption with its number and how many pictures it has."""
    caption = f"domain {domain}: {numbered(size, 'picture')}"
    return captioned(grid(images, columns, enlarge=enlarge), caption)


def matrix(
    sources: Sequence[Image.Image],
    references: Sequence[Image.Image],
    results: Sequence[Sequence[Image.Image]],
    *,
    enlarge: int = 1,
    gap: int = GAP,
) -> Image.Image:
    """References in the first row, sources in the first column; results[i][j] is source i in the style of reference
    j.
    """
    shape = {len(row) for row in results}
    if not sources or not references or len(results) != len(sources) or shape != {len(references)}:
        raise DataError(
            f"{len(sources)} sources and {len(references)} references need as many rows and columns of results"
        )
    cells: list[Image.Image | None] = [None, *references]
    for source, row in zip(sources, results, strict=True):
        cells += [source, *row]
    drawn = [None if cell is None else enlarged(cell, enlarge) for cell in cells]
    return _lay_out(drawn, 1 + len(references), gap)


def captioned(image: Image.Image, text: str) -> Image.Image:
    """The image under a strip with one line of text; it becomes wider if the text needs more space."""
    font = ImageFont.load_default()
    margin = 4
    width = max(image.width, round(font.getlength(text)) + 2 * margin)
    canvas = Image.new("RGB", (width, image.height + CAPTION), BACKGROUND)
    ImageDraw.Draw(canvas).text((margin, CAPTION // 2), text, fill=INK, font=font, anchor="lm")
    canvas.paste(image, (0, CAPTION))
    return canvas


def stack(images: Sequence[Image.Image], *, gap: int = 4 * GAP) -> Image.Image:
    """The images one below the other, at the left."""
    if not images:
        raise DataError("a stack needs pictures, but none were given: give at least one")
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    canvas = Image.new("RGB", (max(image.width for image in images), height), BACKGROUND)
    top = 0
    for image in images:
        canvas.paste(image, (0, top))
        top += image.height + gap
    return canvas


def _lay_out(cells: Sequence[Image.Image | None], columns: int, gap: int) -> Image.Image:
    """Cells row by row, each as large as the largest picture; None stays empty."""
    pictures = [cell for cell in cells if cell is not None]
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    rows = -(-len(cells) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    canvas = Image.new("RGB", size, BACKGROUND)
    for index, cell in enumerate(cells):
        if cell is not None:
            row, column = divmod(index, columns)
            left = column * (width + gap) + (width - cell.width) // 2
            canvas.paste(cell, (left, row * (height + gap) + (height - cell.height) // 2))
    return canvas
