"""Cues: simple descriptors of pictures (colours, shapes, outlines, textures) that need no training.

Clusterings of cues are the trivial baselines that a trained model is compared with. Cues also help to find neighbours
while E's style codes are still poor.

References:
    [1] Smith. Color gamut transform pairs, SIGGRAPH 1978 (HSV). [2] Arandjelovic, Zisserman. Three things everyone
    should know to improve object retrieval, CVPR 2012 (square roots of histograms: Hellinger's distance).
    [3] Dalal, Triggs. Histograms of oriented gradients for human detection, CVPR 2005. [4] Ojala, Pietikainen,
    Maenpaa. Multiresolution gray-scale and rotation invariant texture classification with local binary patterns,
    PAMI 2002 (uniform patterns).
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]
Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
SIDE = 32  # px; pictures are resized to this before their pixels are compared
HSV_BINS = (12, 4, 4)
# For a colour histogram at most this many pixels along each side of a picture are counted. In a larger picture these
# are every second (third, ...) pixel.
MOST_PIXELS_PER_SIDE = 128
# Added to a picture's standard deviation (pixels lie in [0, 1]) before its pixels are divided by it.
LEAST_CONTRAST = 0.02
CELL, ORIENTATIONS = 4, 9  # for outlines: side of a cell in px, and number of bins over half a circle
# Added to the norm of a block's histograms, so that noise on a plain surface does not count as an outline.
LEAST_EDGES = 0.05
RADII = (1, 2)  # for textures: the distances in px at which a pixel is compared with those around it
# (down, right): the directions of the eight pixels around a pixel, clockwise.
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
T = TypeVar("T", bound=np.generic)
CHUNK = 64  # pictures at a time


def colours(images: Pictures) -> Vectors:
    """Square roots [2] of the shares of 12 x 4 x 4 colours (hue, saturation, value) [1]: (N, 192)."""
    return np.sqrt(hsv_shares(images))


def pixels(images: Pictures) -> Vectors:
    """The pixels at 32 px, RGB in [0, 1]: (N, 3072)."""
    return small(images).flatten(1).numpy()


def shapes(images: Pictures) -> Vectors:
    """The pixels at 32 px, standardised per picture so that exposure does not matter: (N, 3072).

    Unlike `outlines`, this compares pictures pixel by pixel: where each one is light and where dark, and its colours.
    """
    x = small(images)
    std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    standard: Vectors = ((x - mean) / (std + LEAST_CONTRAST)).flatten(1).numpy()
    return standard


def outlines(images: Pictures) -> Vectors:
    """Histograms of oriented gradients [3] of the grey picture at 32 px: (N, 1764).

    In each cell of 4 x 4 px a histogram sums the lengths of the gradients by orientation (9 bins over half a circle;
    each gradient is shared between the two nearest bins). Overlapping blocks of 2 x 2 cells are scaled to norm 1. At
    the picture's border, the component of the gradient across the border is set to 0.
    """
    grey = small(images).mean(1)
    down, right = torch.zeros_like(grey), torch.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    right[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    position = torch.atan2(down, right).remainder(torch.pi) / torch.pi * ORIENTATIONS
    lower = position.floor()
    share = position - lower
    length = torch.hypot(down, right)
    lower = lower.long() % ORIENTATIONS
    by_orientation = grey.new_zeros(len(grey), ORIENTATIONS, SIDE, SIDE)
    by_orientation.scatter_(1, lower[:, None], (length * (1 - share))[:, None])
    by_orientation.scatter_add_(1, ((lower + 1) % ORIENTATIONS)[:, None], (length * share)[:, None])
    cells = F.avg_pool2d(by_orientation, CELL) * CELL**2
    blocks = F.unfold(cells, 2)  # (N, 4 * 9, blocks)
    found: Vectors = (blocks / (blocks.norm(dim=1, keepdim=True) + LEAST_EDGES)).flatten(1).numpy()
    return found


def textures(images: Pictures) -> Vectors:
    """Square roots [2] of the shares of local binary patterns [4] of the grey picture at 32 px: (N, 118).

    A pattern tells which of the eight pixels around a pixel are at least as light as it. At each of two distances
    there is one bin for each of the 58 patterns that change at most twice around the circle, and one for all others.
    """
    grey = (255 * small(images).sum(1)).round()  # in whole numbers, so that equal pixels are equal
    parts = []
    for radius in RADII:
        centre = slice(radius, SIDE - radius)
        pattern = torch.zeros(len(grey), SIDE - 2 * radius, SIDE - 2 * radius, dtype=torch.int64)
        for bit, (down, right) in enumerate(AROUND):
            rows, columns = (
                slice(radius + radius * offset, SIDE - radius + radius * offset) for offset in (down, right)
            )
            pattern += (grey[:, rows, columns] >= grey[:, centre, centre]).long() << bit
        bins = pattern_bins()[pattern].flatten(1)
        counts = torch.zeros(len(grey), int(pattern_bins().max()) + 1)
        parts.append(counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float32)) / bins.shape[1])
    found: Vectors = torch.cat(parts, 1).sqrt().numpy()
    return found


CUES = {"colours": colours, "shapes": shapes, "outlines": outlines, "textures": textures}


def by_chunks(
    function: Callable[[Pictures], NDArray[T]], images: Pictures, rows: Integers | None = None
) -> NDArray[T]:
    """The result of `function` for N pictures, one row each, computed a few pictures at a time to limit the memory.

    rows: indices of the pictures to use. If `images` is a memory-mapped file, only these pictures are read.
    """
    number = len(images) if rows is None else len(rows)
    found = None
    for part in (slice(i, i + CHUNK) for i in range(0, number, CHUNK)):
        chunk = function(images[part if rows is None else rows[part]])
        if found is None:  # one array for all, because joining parts in the end would need twice the memory
            found = np.empty((number, *chunk.shape[1:]), chunk.dtype)
        found[part] = chunk
    if found is None:
        raise ValueError("there are no pictures")
    return found


@cache
def pattern_bins() -> Tensor:
    """The bin of each of the 256 patterns of eight bits in a ring [4]: 0 to 57 for uniform ones, 58 for the rest."""
    changes = [sum((p >> i & 1) != (p >> (i + 1) % 8 & 1) for i in range(8)) for p in range(256)]
    uniform = [p for p in range(256) if changes[p] <= 2]
    bins = {p: i for i, p in enumerate(uniform)}
    return torch.tensor([bins.get(p, len(uniform)) for p in range(256)])


def hsv_shares(images: Pictures) -> Vectors:
    """The share of every colour bin in each picture: (N, 192), where each row sums to 1.

    Hue is cut into 12 equal parts from red on, saturation and value into 4 each; grey has the hue of red.
    """
    step = -(-max(images.shape[1:3]) // MOST_PIXELS_PER_SIDE)
    bins = hsv_bins(images[:, ::step, ::step])
    number = int(np.prod(HSV_BINS))
    rows = np.arange(len(bins))[:, None] * number
    counts = np.bincount((rows + bins.reshape(len(bins), -1)).ravel(), minlength=len(bins) * number)
    shares: Vectors = (counts.reshape(len(bins), number) / bins[0].size).astype(np.float32)
    return shares


def hsv_bins(rgb: Pictures) -> Integers:
    """The colour bin of every pixel [1]: (..., 3) bytes to (...) numbers from 0 to 191.

    Computed in whole numbers, so that rounding cannot put a pixel into the neighbouring bin.
    """
    red, green, blue = (rgb[..., i].astype(np.int64) for i in range(3))
    value = rgb.max(-1).astype(np.int64)
    chroma = value - rgb.min(-1)
    # Hue times chroma, in sixths of the circle: from 0 to below 6 * chroma.
    sixth = np.where(
        value == red,
        (green - blue) + np.where(green < blue, 6 * chroma, 0),
        np.where(value == green, (blue - red) + 2 * chroma, (red - green) + 4 * chroma),
    )
    hues, saturations, values = HSV_BINS
    hue = hues * sixth // np.maximum(6 * chroma, 1)
    saturation = np.minimum(saturations * chroma // np.maximum(value, 1), saturations - 1)
    brightness = np.minimum(values * value // 255, values - 1)
    bins: Integers = (hue * saturations + saturation) * values + brightness
    return bins


def small(images: Pictures) -> Tensor:
    """Pictures at 32 px, (N, 3, 32, 32) in [0, 1]; every pixel is the mean of those that it covers."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return x if x.shape[2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="area")
