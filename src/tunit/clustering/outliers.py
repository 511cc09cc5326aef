"""Outlier scores, to find off-topic pictures.

A picture is an outlier if its style code is much farther from its neighbours than these are from their own
neighbours.

References:
    [1] Breunig, Kriegel, Ng, Sander. LOF: identifying density-based local outliers, SIGMOD 2000 (the comparison with
    the neighbours' own distances). [2] Iglewicz, Hoaglin. How to detect and handle outliers, 1993 (median and MAD).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.neighbours import nearest

Scores = NDArray[np.float64]

NEIGHBOURS = 10
MOST_COMPARED = 5_000  # pictures are compared with at most this many others, evenly spread
DEVIATION = 1.4826  # a normal distribution's standard deviation divided by its median absolute deviation
CERTAIN = 8.0  # this many robust deviations above the median get a score of 1
OFF_TOPIC = 0.5  # pictures with this score or more may be off-topic (four of those deviations)
LEAST = 1e-9  # keeps logarithms and quotients finite if all distances are 0


def outlier_scores(styles: NDArray[np.floating]) -> Scores:
    """A score from 0 to 1 for each of N style codes (N, width).

    Each code's mean distance from its nearest codes is divided by the mean distance of these from their own nearest
    codes [1]. The score tells how many robust deviations the logarithm of that ratio is above its median [2]: at the
    median or below it is 0, so at least half of the different codes get 0; from CERTAIN deviations on it is 1.
    Pictures with OFF_TOPIC or more may be off-topic. With fewer than 12 different codes, all scores are 0.

    Equal codes, of copies of a picture, count as one: if most pictures had ten copies, all distances would be 0, and
    every other picture would be an outlier.
    """
    codes = np.asarray(styles, np.float32)
    if not len(codes):
        return np.zeros(0)
    _, firsts, of = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    scores: Scores = np.empty(len(firsts))
    scores[np.argsort(firsts)] = _scores_of_distinct(torch.from_numpy(codes[np.sort(firsts)]))
    return scores[of.ravel()]


def _scores_of_distinct(codes: Tensor) -> Scores:
    """The scores of different codes (N, width)."""
    # Distances between codes that are far from 0, compared with their spread, would lose most of their digits.
    codes = (codes - codes.double().mean(0)).float()
    number = len(codes)
    if number < NEIGHBOURS + 2:
        return np.zeros(number)
    rows = np.unique(np.linspace(0, number - 1, min(number, MOST_COMPARED)).astype(np.int64))
    own = torch.full((number,), -1)
    own[rows] = torch.arange(len(rows))
    compared = codes[rows]
    values, indices = nearest(lambda some: torch.cdist(codes[some], compared), own, NEIGHBOURS)
    distances = values.mean(1).double().numpy()
    around = distances[rows][indices.numpy()].mean(1)
    logs = np.log(np.maximum(distances, LEAST) / np.maximum(around, LEAST))
    above = logs - np.median(logs)
    spread = DEVIATION * float(np.median(np.abs(above)))
    scores: Scores = np.clip(above / max(CERTAIN * spread, LEAST), 0, 1)
    return scores
