"""Merge many small groups of pictures step by step, the nearest two first: a tree of groups, read level by level.

References:
    [1] Ward. Hierarchical grouping to optimize an objective function, JASA 1963.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from tunit.clustering.cues import Integers
from tunit.clustering.partition import k_means
from tunit.clustering.separation import Points, separation

# k-means makes at most this many groups (cells), which are then merged. If more domains than that may be found, there
# are SURPLUS times as many cells as domains, because k-means rarely puts each domain into one cell.
CELLS, SURPLUS = 50, 1.25
CELL_RESTARTS = 2  # how often k-means starts; the best result is kept
FEWEST = 5  # a cell has at least this many pictures, on average


@dataclass(frozen=True)
class Level:
    """One stage of merging: k groups, and how far apart the two groups are that will be merged next."""

    groups: Integers  # (N,): from 0 to k - 1
    # The dip of the two groups that are merged next, divided by its critical value; 0 for a single group.
    apart: float
    smaller: int  # how many pictures the smaller one of these two has; 0 for a single group


def levels(points: Points, most: int, seed: int) -> dict[int, Level]:
    """Merge k-means cells by Ward's method: stages with 1 to `most` groups (with fewer cells, to their number)."""
    groups = _cells(points, most, seed)
    ward = _Ward(points, groups)
    numbers = np.empty(len(points), np.int64)
    for i, rows in enumerate(groups):
        numbers[rows] = i
    found = {}
    while True:
        k = len(groups)
        first, second = ward.nearest() if k > 1 else (0, 0)
        if k <= most:
            apart = separation(points[groups[first]], points[groups[second]]) if k > 1 else 0.0
            smaller = min(len(groups[first]), len(groups[second])) if k > 1 else 0
            found[k] = Level(numbers.copy(), apart, smaller)
        if k == 1:
            return found
        groups[first] = np.concatenate([groups[first], groups.pop(second)])
        ward.merge(first, second, points[groups[first]])
        numbers[numbers == second] = first
        numbers[numbers > second] -= 1


class _Ward:
    """How much merging any two groups would add to the squared distances within groups [1]; updated at each merge."""

    def __init__(self, points: Points, groups: list[Integers]) -> None:
        self._centres = np.stack([points[rows].mean(0) for rows in groups])
        self._sizes = np.array([len(rows) for rows in groups], np.float64)
        self._cost = np.stack([self._cost_with(i) for i in range(len(groups))])  # (k, k)

    def nearest(self) -> tuple[int, int]:
        """The two groups whose merging adds least, in ascending order."""
        first, second = sorted(divmod(int(self._cost.argmin()), len(self._cost)))
        return first, second

    def merge(self, first: int, second: int, points: Points) -> None:
        """The first group has these points now, and the second one is gone, so that later ones move up by one."""
        self._centres[first], self._sizes[first] = points.mean(0), len(points)
        self._centres, self._sizes = (np.delete(some, second, 0) for some in (self._centres, self._sizes))
        self._cost = np.delete(np.delete(self._cost, second, 0), second, 1)
        self._cost[first] = self._cost[:, first] = self._cost_with(first)

    def _cost_with(self, i: int) -> Points:
        """What merging group i with each of the k groups adds: (k,); infinite for itself."""
        cost = np.square(self._centres - self._centres[i]).sum(1)
        cost *= self._sizes * self._sizes[i] / (self._sizes + self._sizes[i])
        cost[i] = np.inf
        return cast(Points, cost)


def _cells(points: Points, most: int, seed: int) -> list[Integers]:
    """The groups of k-means before any merge, each as the rows of its pictures. most: as in `levels`."""
    cells = CELLS if most <= CELLS else round(SURPLUS * most)
    number = max(1, min(cells, len(points) // FEWEST, len(np.unique(points, axis=0))))
    labels = k_means(points, number, seed, CELL_RESTARTS).labels_
    return [np.flatnonzero(labels == i) for i in np.unique(labels)]
