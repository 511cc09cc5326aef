"""Hartigan's dip: how far numbers on a line are from having a single mode.

References:
    [1] Hartigan, Hartigan. The dip test of unimodality, Annals of Statistics 13 (1985).
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def dip(values: Numbers) -> float:
    """The largest distance of the empirical distribution of n >= 1 numbers from the nearest unimodal one [1].

    It lies between 1 / (2n), as for evenly spaced numbers, and 1/4, as for two heaps far apart.
    """
    x, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    n = int(counts.sum())
    above = np.cumsum(counts).astype(np.float64)  # the distribution jumps from below to above at each of x
    below = above - counts
    low, high, found = 0, len(x) - 1, 1.0  # the modal interval so far; n times twice the dip
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
    """The corners of the greatest convex line below the points (x, y), x rising."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)


# Numbers, and the dip times their square root that 5 in 100 sets of so many uniform numbers exceed: 20,000 sets each.
# The uniform distribution is the hardest of the unimodal ones to tell from several modes [1].
NUMBERS = (10, 20, 30, 50, 100, 200, 500, 2000)
CRITICAL = (0.4397, 0.4711, 0.4829, 0.4978, 0.5110, 0.5233, 0.5315, 0.5330)


def critical_dip(number: int) -> float:
    """The dip that 5 of 100 sets of so many uniform numbers exceed: several modes are likely beyond it.

    With fewer than 10 numbers it is the more careful the fewer they are.
    """
    return float(np.interp(np.log(number), np.log(NUMBERS), CRITICAL) / np.sqrt(number))
