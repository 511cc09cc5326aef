"""Outlier scores, to find off-topic pictures.

A picture is an outlier if it is far from its nearest neighbours by simple cues: colours, shapes, outlines and
textures (tunit.clustering.cues). E's style codes do not tell: by the contrastive loss E spreads all pictures evenly,
off-topic ones too (EXPERIMENTS.md, "Off-topic pictures").

References:
    [1] Ramaswamy, Rastogi, Shim. Efficient algorithms for mining outliers from large data sets, SIGMOD 2000 (distance
    from the nearest neighbours). [2] Iglewicz, Hoaglin. How to detect and handle outliers, 1993 (median and MAD).
    [3] Johnson, Lindenstrauss. Extensions of Lipschitz mappings into a Hilbert space, 1984 (random projections).
"""

from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.cues import CUES, SIDE, Pictures, Vectors, each_by_chunks
from tunit.clustering.neighbours import nearest
from tunit.data.finding.spread import stride

Scores = NDArray[np.float64]

NEIGHBOURS = 10
MOST_COMPARED = 5_000  # pictures are compared with at most this many others, evenly spread
DEVIATION = 1.4826  # a normal distribution's standard deviation divided by its median absolute deviation
CERTAIN = 6.0  # this many robust deviations above the median get a score of 1
# Limits of the deviations by one cue. A plain picture has no outlines, which is near those of all others; so a cue
# that sees nothing unusual hardly speaks against one that does.
LOWEST, HIGHEST = -1.0, 8.0
OFF_TOPIC = 0.5  # pictures with this score or more may be off-topic (three of those deviations)
DECIMALS = 3  # of a score: OFF_TOPIC then divides the pictures by the numbers that tables show
LEAST = 1e-9  # keeps logarithms and quotients finite if all distances are 0
# Cues are projected at random to this width, which changes distances by about 6 % [3]: in full they are up to 3,072
# numbers for each picture, too many to keep for a large folder.
PROJECTED = 128


def appearance(images: Pictures) -> Vectors:
    """What `outlier_scores` needs to know of N pictures (N, S, S, 3): (N, width), all cues side by side."""
    cues = each_by_chunks({name: partial(_narrow_cue, name) for name in CUES}, images)
    return np.concatenate(list(cues.values()), axis=1)


def no_appearance() -> Vectors:
    """The appearance of no picture: (0, width)."""
    return np.zeros((0, appearance_width()), np.float32)


def appearance_width() -> int:
    """How many numbers the appearance of one picture has."""
    return sum(_widths())


def outlier_scores(appearances: Vectors) -> Scores:
    """A score from 0 to 1, rounded to DECIMALS, for each of N pictures. appearances: (N, width), from `appearance`.

    By each cue, the logarithm of a picture's mean distance from its NEIGHBOURS nearest [1] is compared with the
    median of all pictures, in robust deviations [2]. The mean over the cues is compared with its own median in the
    same way: at the median or below it the score is 0, so at least half of the different pictures get 0; from CERTAIN
    deviations on it is 1. Pictures with OFF_TOPIC or more may be off-topic. With fewer than 12 different ones, all
    scores are 0.

    Copies of a picture count as one: if most pictures had ten copies, all distances would be 0, and every other
    picture would be an outlier.
    """
    return unrounded_scores(appearances).round(DECIMALS)


def unrounded_scores(appearances: Vectors) -> Scores:
    """The scores of `outlier_scores` with all decimals."""
    rows = np.ascontiguousarray(appearances, np.float32)
    places: dict[bytes, int] = {}
    of = np.array([places.setdefault(row.tobytes(), len(places)) for row in rows], np.int64)
    firsts = np.unique(of, return_index=True)[1]
    if len(firsts) < NEIGHBOURS + 2:
        return np.zeros(len(rows))
    cues = torch.split(torch.from_numpy(rows[firsts]), _widths(), dim=1)
    deviations = [np.clip(_deviations(np.log(_distances(cue) + LEAST)), LOWEST, HIGHEST) for cue in cues]
    scores: Scores = np.clip(_deviations(np.mean(deviations, axis=0)) / CERTAIN, 0, 1)
    return scores[of]


def _narrow_cue(name: str, images: Pictures) -> Vectors:
    """A cue of N pictures: (N, PROJECTED or less). In float64 first, so that copies in other batches stay equal."""
    cue = CUES[name](images)
    if cue.shape[1] <= PROJECTED:
        return cue
    narrow: Vectors = (cue @ _projection(name, cue.shape[1])).astype(np.float32)
    return narrow


@cache
def _projection(name: str, width: int) -> NDArray[np.float64]:
    """A random matrix (width, PROJECTED), for each cue another one, the same in every process [3]."""
    rng = np.random.default_rng(list(CUES).index(name))
    matrix: NDArray[np.float64] = rng.standard_normal((width, PROJECTED)) / np.sqrt(PROJECTED)
    return matrix


@cache
def _widths() -> list[int]:
    """How many numbers of an appearance each cue has."""
    black = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    return [min(cue(black).shape[1], PROJECTED) for cue in CUES.values()]


def _distances(vectors: Tensor) -> Scores:
    """Each vector's mean distance from its nearest: (N, width) to (N,)."""
    # Distances between vectors that are far from 0, compared with their spread, would lose most of their digits.
    vectors = (vectors - vectors.double().mean(0)).float()
    rows = np.arange(0, len(vectors), stride(len(vectors), MOST_COMPARED))
    own = torch.full((len(vectors),), -1)
    own[rows] = torch.arange(len(rows))
    compared = vectors[rows]
    values, _ = nearest(lambda some: torch.cdist(vectors[some], compared), own, NEIGHBOURS)
    found: Scores = values.mean(1).double().numpy()
    return found


def _deviations(values: Scores) -> Scores:
    """How many robust standard deviations each value is above the median [2]; all 0 if most values are equal."""
    above = values - np.median(values)
    spread = DEVIATION * float(np.median(np.abs(above)))
    found: Scores = above / spread if spread > LEAST else np.zeros_like(above)
    return found
