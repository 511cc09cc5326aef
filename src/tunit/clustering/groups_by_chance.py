"""How clearly pictures fall into groups by some measures, beyond what vectors without any groups show.

The graph of nearest neighbours of points that vary along one or two dimensions, such as the hue of a paint, is easily
cut into parts, although there are no groups: few edges lead across each cut. The more dimensions, the more edges do.
So the distance of a graph from separate groups is compared with the one to expect by chance: that of the graph of
normally distributed points. This is the idea of the gap statistic [1] for graphs.

These points are chosen in two ways, and groups count only if both say so. With as many dimensions as the vectors have
*near each other*, a narrow line of points, such as a hue, is recognised. With the *covariance* of the vectors, so is
what varies a lot along a few directions and a little along many, such as how rough the background is: near each other
such vectors differ in many dimensions, but the few large ones cut the graph.

References:
    [1] Tibshirani, Walther, Hastie. Estimating the number of clusters in a data set via the gap statistic, 2001.
    [2] Levina, Bickel. Maximum likelihood estimation of intrinsic dimension, NIPS 2004.
    [3] MacKay, Ghahramani. Comments on "Maximum likelihood estimation of intrinsic dimension", 2005 (the mean over
    the pictures is that of the inverse).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.graph import GRAPH_NEIGHBOURS, distances_from_separate_groups
from tunit.clustering.neighbours import neighbours_and_distances

DIMENSIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of the normal distributions; a cue has at most 64
# The least distance from groups that is expected by chance. With few groups it may be as small as the error of the
# eigenvalues.
LEAST_EXPECTED = 1e-6
# Added to each ratio before the geometric mean, so that one ratio of 0 does not decide alone.
LEAST_RATIO = 0.01


@dataclass(frozen=True)
class Separation:
    """How the graph of nearest neighbours by some measures falls into groups."""

    measures: Sequence[Tensor]  # (N, any width) each
    dimension: float  # `intrinsic_dimension`
    distances: dict[int, float]  # from separate groups, by the number of groups


class GroupsByChance:
    """Compares measures of N pictures by `ratio`.

    number: N. groups: into how many groups a measure should separate the pictures; several numbers if it is not
    known. Each is at least 1.
    """

    def __init__(self, number: int, groups: Sequence[int]) -> None:
        possible = {min(each, number - 2) for each in groups}
        self.groups = tuple(sorted(each for each in possible if each > 1))
        self._number = number
        self._two_or_more = tuple(sorted({2, *self.groups}))

    def separation(self, measures: Sequence[Tensor]) -> Separation:
        """The graph of measures (N, any width), for the ratios."""
        if not self.groups:
            return Separation(measures, float("inf"), {})
        return _separation(measures, self._two_or_more)

    def ratio(self, found: Separation) -> float:
        """The distance from separate groups by all measures together, over the one by chance.

        0 for separate groups, about 1 for none: the larger one of `ratio_by_dimension` and `ratio_by_covariance`. It
        is 1 for a single group, into which any measure "separates" them.
        """
        return max(self.ratio_by_dimension(found), self.ratio_by_covariance(found))

    def ratio_by_dimension(self, found: Separation) -> float:
        """Chance: normally distributed points with the same `intrinsic_dimension`, which are drawn once.

        With several numbers of groups it is the geometric mean, so that a clear separation into few groups counts,
        also if the pictures do not fall into as many groups as the largest number.
        """
        if not self.groups:
            return 1.0
        ratios = np.array([found.distances[each] for each in self.groups]) / self.expected(found.dimension)
        return float(np.exp(np.log(ratios + LEAST_RATIO).mean()) - LEAST_RATIO)

    def ratio_by_covariance(self, found: Separation) -> float:
        """Chance: for each measure, normally distributed points with the same covariance. It costs a second graph.

        It is the smallest ratio of these numbers of groups and of two: three clear groups have a covariance of two
        large variances, and points with such a covariance are cut into ten parts as easily as these groups are; but
        three clear groups are also two. It is 1 for measures that are not finite, such as codes of an E whose weights
        are not.
        """
        if not self.groups or not all(vectors.isfinite().all() for vectors in found.measures):
            return 1.0
        by_chance = self.separation([_normal_points_like(vectors) for vectors in found.measures])
        expected = by_chance.distances
        return min(found.distances[each] / max(expected[each], LEAST_EXPECTED) for each in self._two_or_more)

    def expected(self, dimension: float) -> NDArray[np.float64]:
        """The distances from separate groups of normally distributed points with this `intrinsic_dimension`.

        One for each number of groups. The points' dimension is found as that of the pictures, because the estimate is
        too small where there are many dimensions. Between the distributions that are drawn, logarithms are
        interpolated.
        """
        dimensions, *by_groups = np.log(_of_normal_points(self._number, self.groups)).T
        return np.exp([np.interp(np.log(dimension), dimensions, distances) for distances in by_groups])


@lru_cache(maxsize=8)
def _of_normal_points(number: int, groups: tuple[int, ...]) -> NDArray[np.float64]:
    """By the number of dimensions of the normal distribution: the dimension that is found, and the distances."""
    rng = np.random.default_rng(0)  # the seed is fixed, so that runs are repeatable
    points = rng.standard_normal((number, max(DIMENSIONS))).astype(np.float32)
    rows = [_separation([torch.from_numpy(points[:, :d])], groups) for d in DIMENSIONS]
    drawn = [[row.dimension, *row.distances.values()] for row in rows]
    return np.maximum.accumulate(np.maximum(drawn, LEAST_EXPECTED))


def _normal_points_like(vectors: Tensor) -> Tensor:
    """Normally distributed points with the covariance of vectors (N, width): (N, width) float32 on the CPU.

    With X = QR the centred vectors, the covariance is R^T R / N. R has no more rows than there are vectors, so this
    is quick, too, if there are few and wide ones.
    """
    centred = vectors.cpu().double().numpy()
    factor = np.linalg.qr(centred - centred.mean(0), mode="r") / np.sqrt(len(centred))
    rng = np.random.default_rng(0)  # the seed is fixed, as above
    drawn = rng.standard_normal((len(centred), len(factor)))
    return torch.from_numpy((drawn @ factor).astype(np.float32))


def _separation(measures: Sequence[Tensor], groups: Sequence[int]) -> Separation:
    k = min(GRAPH_NEIGHBOURS, len(measures[0]) - 1)
    distances, neighbours = neighbours_and_distances(measures, k)
    apart = distances_from_separate_groups(neighbours, groups)
    return Separation(measures, intrinsic_dimension(distances), dict(zip(groups, apart, strict=True)))


def intrinsic_dimension(distances: Tensor) -> float:
    """Along how many dimensions the pictures vary near each other [2, 3].

    distances: (N, k), of each picture from its k nearest others, nearest first. A distance of 0, of a copy, is left
    out. Infinite if all others are at one distance, as the corners of a simplex. Many near-copies make it smaller.
    """
    distances = distances.cpu().double()  # not every device has float64
    logarithms = torch.log(distances[:, -1:] / distances[:, :-1])
    logarithms = logarithms[logarithms.isfinite()]
    mean = float(logarithms.mean()) if len(logarithms) else 0.0
    return 1 / mean if mean > 0 else float("inf")
