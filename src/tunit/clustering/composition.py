"""How far the pictures of a set share a composition, and which random crops of them E should learn from.

Pictures of things (animals, signs) often share a composition: the thing is in the middle, its head at the top. There,
the arrangement of parts tells kinds apart, and small crops hide it. Pictures of materials, or of heaps of fruit, look
alike everywhere; there, small crops keep E from learning the arrangement of what is in a picture by chance.

Whether a set shares a composition is found without labels, by an analysis of variance: how much of the variance of
local outlines is explained by the place in the picture alone?

References:
    [1] Kelley. An unbiased correlation ratio measure, PNAS 1935 (epsilon squared).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from tunit.clustering.cues import SIDE, Pictures, by_chunks, outlines, small
from tunit.data.finding.spread import stride

MOST_COMPARED = 1_000  # at most this many pictures, evenly spread over the set
# The upper left corners (down, right) of the compared parts of a picture; the side of a part is half of the
# picture's. The last part is the middle.
PART = SIDE // 2
PLACES = ((0, 0), (0, PART), (PART, 0), (PART, PART), (PART // 2, PART // 2))
# If the place explains at least this share of the variance, the pictures share a composition. It is 0.000 for
# materials, 0.001 to 0.004 for photographs of fruit, 0.006 to 0.016 for things anywhere in front of a background,
# about 0.01 for dogs, 0.07 for traffic signs and 0.15 for synthetic creatures.
SHARED = 0.005
CLOSE, WHOLE = (0.1, 0.7), (0.3, 1.0)  # the areas of random crops, as shares of the picture


def crop_area_for(images: Pictures) -> tuple[float, float]:
    """The smallest and the largest area of random crops that suit N pictures (N, S, S, 3), as shares of a picture."""
    return WHOLE if shared_composition(images) >= SHARED else CLOSE


def shared_composition(images: Pictures) -> float:
    """The share of the variance of local outlines that the place in the picture explains.

    It is near 0 (perhaps a little below) for pictures that look alike everywhere, 1 if all are the same picture, and
    0 for fewer than two pictures. images: (N, S, S, 3).
    """
    rows = np.arange(0, len(images), stride(len(images), MOST_COMPARED))
    if len(rows) < 2:
        return 0.0
    return explained_by_place(by_chunks(_outlines_by_place, images, rows))


def explained_by_place(descriptors: NDArray[np.floating]) -> float:
    """Epsilon squared [1] of an analysis of variance with one factor, the place; summed over all numbers.

    descriptors: (N, places, width). Unlike the plain share of the variance, its expected value is 0 if the place says
    nothing, for any number of pictures.
    """
    values = np.asarray(descriptors, np.float64)
    number, places, _ = values.shape
    centred = values - values.mean((0, 1))
    total = np.square(centred).sum()
    between = number * np.square(centred.mean(0)).sum()
    within = (total - between) / (places * (number - 1))  # the mean square within places
    return float((between - (places - 1) * within) / total) if total > 0 else 0.0


def _outlines_by_place(images: Pictures) -> NDArray[np.float32]:
    """(N, places, width): the outlines of parts of pictures."""
    shrunk = (small(images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    parts = [shrunk[:, y : y + PART, x : x + PART] for y, x in PLACES]
    return np.stack([outlines(part) for part in parts], axis=1)
