"""Cues: simple descriptors of pictures (colours, shapes, outlines, textures) that need no training.

Clusterings of cues are the trivial baselines that a trained model is compared with. Cues also help to find neighbours
while E's style codes are still poor.

References:
    [1] CIE 15: Colorimetry, 2004 (L*a*b*); IEC 61966-2-1, 1999 (sRGB). [2] Arandjelovic, Zisserman. Three things
    everyone should know to improve object retrieval, CVPR 2012 (square roots of histograms: Hellinger's distance).
    [3] Dalal, Triggs. Histograms of oriented gradients for human detection, CVPR 2005. [4] Ojala, Pietikainen,
    Maenpaa. Multiresolution gray-scale and rotation invariant texture classification with local binary patterns,
    PAMI 2002 (uniform patterns).
"""

import itertools
import math
from collections.abc import Callable, Mapping
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
# The distance of two neighbouring bins of a colour histogram: of lightness L* (0 to 100), and of a* and b*.
LIGHTNESS_STEP, COLOUR_STEP = 12.5, 12.0
LARGEST_A_B = 108  # no colour of sRGB has a larger |a*| or |b*|
SAMPLED = 33  # levels of red, green and blue whose colours tell which bins are ever used
# Added to a picture's standard deviation (pixels lie in [0, 1]) before its pixels are divided by it.
LEAST_CONTRAST = 0.02
# From linear red, green and blue to X, Y and Z, and X, Y and Z of white [1].
XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
WHITE = (0.95047, 1.0, 1.08883)
CELL, ORIENTATIONS = 4, 9  # for outlines: side of a cell in px, and number of bins over half a circle
# Added to the norm of a block's histograms, so that noise on a plain surface does not count as an outline.
LEAST_EDGES = 0.05
RADII = (1, 2)  # for textures: the distances in px at which a pixel is compared with those around it
# (down, right): the directions of the eight pixels around a pixel, clockwise.
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
T = TypeVar("T", bound=np.generic)
CHUNK = 64  # pictures at a time


def colours(images: Pictures) -> Vectors:
    """Square roots [2] of a histogram of the colours L*a*b* [1] of the picture at 32 px: (N, number of bins).

    Each pixel is shared between the eight nearest bins, in proportion to how near they are. So two colours that
    differ little have similar histograms, wherever the bins are; and a grey pixel, whose hue is noise, stays grey.
    """
    found: Vectors = lab_shares(small(images))[:, used_bins()].sqrt().numpy()
    return found


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
    return each_by_chunks({"": function}, images, rows)[""]


def each_by_chunks(
    functions: Mapping[str, Callable[[Pictures], NDArray[T]]], images: Pictures, rows: Integers | None = None
) -> dict[str, NDArray[T]]:
    """The results of several functions by name, each as `by_chunks` gives it; every picture is read only once.

    Raises ValueError if there are no pictures.
    """
    number = len(images) if rows is None else len(rows)
    if not number:
        raise ValueError("there are no pictures")
    found: dict[str, NDArray[T]] = {}
    for part in (slice(i, i + CHUNK) for i in range(0, number, CHUNK)):
        some = images[part if rows is None else rows[part]]
        for name, function in functions.items():
            chunk = function(some)
            if name not in found:  # one array for all, because joining parts would need twice the memory
                found[name] = np.empty((number, *chunk.shape[1:]), chunk.dtype)
            found[name][part] = chunk
    return found


@cache
def pattern_bins() -> Tensor:
    """The bin of each of the 256 patterns of eight bits in a ring [4]: 0 to 57 for uniform ones, 58 for the rest."""
    changes = [sum((p >> i & 1) != (p >> (i + 1) % 8 & 1) for i in range(8)) for p in range(256)]
    uniform = [p for p in range(256) if changes[p] <= 2]
    bins = {p: i for i, p in enumerate(uniform)}
    return torch.tensor([bins.get(p, len(uniform)) for p in range(256)])


@cache
def used_bins() -> Tensor:
    """Which bins of `lab_shares` a colour of sRGB can reach: their numbers, in ascending order."""
    levels = torch.linspace(0, 1, SAMPLED)
    colours = torch.cartesian_prod(levels, levels, levels)  # (35937, 3)
    return lab_shares(colours.T[None, :, :, None])[0].nonzero().flatten()


def lab_shares(rgb: Tensor) -> Tensor:
    """Which share of a picture's pixels has which colour: (N, 3, H, W) sRGB in [0, 1] to (N, bins); rows sum to 1."""
    origin = torch.tensor([0.0, -LARGEST_A_B, -LARGEST_A_B])
    step = torch.tensor([LIGHTNESS_STEP, COLOUR_STEP, COLOUR_STEP])
    bins = [round(100 / LIGHTNESS_STEP) + 1, *[round(2 * LARGEST_A_B / COLOUR_STEP) + 1] * 2]
    position = (lab_of(rgb).flatten(2).transpose(1, 2) - origin) / step  # (N, pixels, 3), in bins
    position = position.clamp(min=torch.zeros(3), max=torch.tensor(bins) - 1.0)
    lower = torch.minimum(position.floor(), torch.tensor(bins) - 2.0)
    share = position - lower
    found = rgb.new_zeros(len(rgb), math.prod(bins))
    for corner in itertools.product((0, 1), repeat=3):
        upper = torch.tensor(corner, dtype=torch.bool)
        weight = torch.where(upper, share, 1 - share).prod(-1)
        level, a, b = (lower.long() + upper).unbind(-1)
        found.scatter_add_(1, (level * bins[1] + a) * bins[2] + b, weight)
    return found / position.shape[1]


def lab_of(rgb: Tensor) -> Tensor:
    """The colours L*a*b* [1], for daylight (D65), of sRGB in [0, 1]: (N, 3, H, W) to (N, 3, H, W)."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,njhw->nihw", torch.tensor(XYZ_OF_RGB) / torch.tensor(WHITE)[:, None], linear)
    # A cube root, continued by a straight line where it would be too steep.
    x, y, z = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp(min=0) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29
    ).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def small(images: Pictures) -> Tensor:
    """Pictures at 32 px, (N, 3, 32, 32) in [0, 1]; every pixel is the mean of those that it covers."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return x if x.shape[2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="area")
