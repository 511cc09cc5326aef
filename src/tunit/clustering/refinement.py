"""Improve a division of pictures: split one group and merge two others, as long as this gets better.

The usual mistake of a clustering with a given number of groups is to merge two kinds and to split a third one. Runs
from other starts make other such mistakes (tunit.clustering.partition), but even the best of some divisions may still
have one. A split and a merger at once can correct it, and keep the number of groups. This is the idea of ISODATA [1],
with a criterion of graphs [2, 3] instead of distances.

References:
    [1] Ball, Hall. ISODATA, a novel method of data analysis and pattern classification, 1965.
    [2] Newman. Modularity and community structure in networks, PNAS 2006.
    [3] Shi, Malik. Normalized cuts and image segmentation, PAMI 2000.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import edges_of
from tunit.clustering.partition import k_means

FEWEST_TO_SPLIT = 10  # pictures in a group that may be split
MOST_CORRECTIONS = 20
LEAST_GAIN = 1e-6  # of modularity: more than rounding errors


class Quality(NamedTuple):
    """How well groups divide some graphs."""

    modularity: float  # summed over the graphs; larger is better
    cut: float  # normalised cuts, summed over the graphs; smaller is better

    def is_better_than(self, other: "Quality") -> bool:
        """Whether the modularity is larger, and the cut is not.

        Modularity alone would split a large kind and merge two small ones.
        """
        return self.modularity > other.modularity + LEAST_GAIN and self.cut <= other.cut


def refined(
    graphs: Sequence[Tensor], groups: Integers, vectors: Sequence[NDArray[np.floating]], seed: int
) -> Integers:
    """The groups (N,), from 0 to their number - 1, after one group was split and two were merged, again and again.

    graphs: (N, k) int64 each, the neighbours of each picture. vectors: (N, any width) each; a group may be split by
    k-means on any of them. Of all possible corrections the one with the largest modularity is made, if it makes the
    division better (`Quality`), until none does or after MOST_CORRECTIONS. The number of groups stays the same.
    """
    edges = [edges_of(graph) for graph in graphs]
    best = quality([edges_between(each, groups) for each in edges])
    for _ in range(MOST_CORRECTIONS):
        found = max(corrections(edges, groups, vectors, best, seed), key=lambda each: each[0], default=None)
        if found is None:
            break
        best, groups = found
    return groups


def corrections(
    edges: Sequence[sparse.csr_matrix],
    groups: Integers,
    vectors: Sequence[NDArray[np.floating]],
    best: Quality,
    seed: int,
) -> Iterator[tuple[Quality, Integers]]:
    """For each way to split a group: the best division with two other groups merged, if it is better than `best`."""
    number = int(groups.max()) + 1
    for split in range(number):
        members = np.flatnonzero(groups == split)
        if len(members) < FEWEST_TO_SPLIT:
            continue
        for each in vectors:
            second = members[k_means(each[members], 2, seed).labels_ == 1]
            if not len(second):  # all vectors are the same
                continue
            divided = groups.copy()
            divided[second] = number
            between = [edges_between(graph, divided) for graph in edges]
            merged = [
                (quality([with_merged(counts, i, j) for counts in between]), i, j)
                for j in range(number + 1)
                for i in range(j)
                if (i, j) != (split, number)
            ]
            better = [one for one in merged if one[0].is_better_than(best)]
            if better:
                found, i, j = max(better)
                divided[divided == j] = i
                divided[divided == number] = j  # no group has the number j now, unless it is the last one
                yield found, divided


def edges_between(edges: sparse.csr_matrix, groups: Integers) -> NDArray[np.float64]:
    """(groups, groups): how many edges lead from each group to each; those within a group count twice.

    edges: (N, N), from `edges_of`.
    """
    number, listed = int(groups.max()) + 1, edges.tocoo()
    places = groups[listed.row] * number + groups[listed.col]
    return np.bincount(places, listed.data, number**2).reshape(number, number).astype(np.float64)


def with_merged(between: NDArray[np.float64], i: int, j: int) -> NDArray[np.float64]:
    """The same as `edges_between` after groups i and j have become one."""
    rows = between.copy()
    rows[i] += rows[j]
    rows[:, i] += rows[:, j]
    return np.delete(np.delete(rows, j, 0), j, 1)


def quality(between: Sequence[NDArray[np.float64]]) -> Quality:
    """The modularity [2] and the normalised cut [3] of groups, from `edges_between` for each graph."""
    modularity = cut = 0.0
    for counts in between:
        ends, within = counts.sum(1), np.diagonal(counts)
        modularity += float(within.sum() / counts.sum() - np.square(ends / counts.sum()).sum())
        cut += float((1 - within / np.maximum(ends, 1)).sum())
    return Quality(modularity, cut)
