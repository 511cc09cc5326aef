"""Hartigan's dip: how far the distribution of some numbers is from having a single mode.

References:
    [1] Hartigan, Hartigan. The dip test of unimodality, Annals of Statistics 13 (1985).
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def dip(values: Numbers) -> float:
    """The largest distance of the empirical distribution of n >= 1 numbers from the nearest unimodal one [1].

    It lies between 1 / (2n), for evenly spaced numbers, and 1/4, for two clusters far apart. For a single number it
    is 1/2.
    """
    x, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    n = int(counts.sum())
    # The distribution function, times n, jumps from `below` to `above` at each number in x.
    above = np.cumsum(counts).astype(np.float64)
    below = above - counts
    low, high, found = 0, len(x) - 1, 1.0  # the modal interval so far; the dip so far, times 2 n
    while low < high:
        own = slice(low, high + 1)
        under = _lower_hull(x[own], below[own])
        over = _lower_hull(-x[own][::-1], -above[own][::-1])
        over = high - low - over[::-1]
        convex = np.interp(x[own], x[own][under], below[own][under])
        concave = np.interp(x[own], x[own][over], above[own][over])
        gaps = concave - convex
        touching = np.union1d(under, over)
        widest = touching[gaps[touching].argmax()]
        if gaps[widest] <= found:
            break
        left, right = under[under <= widest][-1], over[over >= widest][0]
        found = max(
            found,
            np.max(above[own][:left] - convex[:left], initial=0.0),
            np.max(concave[right + 1 :] - below[own][right + 1 :], initial=0.0),
        )
        if (left, right) == (0, high - low):
            break
        low, high = low + left, low + right
    return float(found) / (2 * n)


def _lower_hull(x: Numbers, y: Numbers) -> NDArray[np.int64]:
    """The corners of the greatest convex function below the points (x, y), where x increases."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)


# The 95th percentile of the dip of n uniform random numbers, times the square root of n, from 20,000 sets of each
# size in NUMBERS. Of all unimodal distributions the uniform one is the hardest to tell from one with several modes
# [1].
NUMBERS = (10, 20, 30, 50, 100, 200, 500, 2000)
CRITICAL = (0.4397, 0.4711, 0.4829, 0.4978, 0.5110, 0.5233, 0.5315, 0.5330)


def critical_dip(number: int) -> float:
    """The dip that only 5 % of random sets of this many uniform numbers exceed; above it, several modes are likely.

    For fewer than 10 numbers the entry for 10 is used, which is too large: several modes are then found less often.
    """
    return float(np.interp(np.log(number), np.log(NUMBERS), CRITICAL) / np.sqrt(number))
