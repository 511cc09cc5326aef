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

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import edges_of, modularity, normalised_cut
from tunit.clustering.partition import k_means

FEWEST_TO_SPLIT = 10  # pictures in a group that may be split
MOST_GROUPS = 200  # with more groups the search would take minutes
MOST_CORRECTIONS = 20
LEAST_GAIN = 1e-6  # of modularity: more than rounding errors

Splits = dict[bytes, list[Integers]]  # by the members of a group: the second half of each way to split it


class Quality(NamedTuple):
    """How well groups divide some graphs."""

    modularity: float  # summed over the graphs; larger is better
    cut: float  # normalised cuts, summed over the graphs; smaller is better


def refined(
    graphs: Sequence[Tensor], groups: Integers, vectors: Sequence[NDArray[np.floating]], seed: int
) -> Integers:
    """The groups (N,), from 0 to their number - 1, after one group was split and two were merged, again and again.

    graphs: (N, k) int64 each, the neighbours of each picture. vectors: (N, any width) each; a group may be split by
    k-means on any of them. Of all possible corrections, the one with the largest modularity is made, among those by
    which modularity becomes larger and the cut does not (modularity alone would split a large kind and merge two
    small ones); until there is none, or after MOST_CORRECTIONS. The number of groups stays the same. More than
    MOST_GROUPS groups stay as they are.
    """
    if groups.max() >= MOST_GROUPS:
        return groups
    edges, known = [edges_of(graph) for graph in graphs], Splits()
    now = quality(edges, groups)
    for _ in range(MOST_CORRECTIONS):
        found = list(corrections(edges, groups, splits(groups, vectors, seed, known), now))
        if not found:
            break
        now, groups = max(found, key=lambda each: each[0])
    return groups


def splits(
    groups: Integers, vectors: Sequence[NDArray[np.floating]], seed: int, known: Splits
) -> Iterator[Integers]:
    """For each large enough group and each of the vectors: the pictures that leave the group if it is split in two.

    known: the splits of earlier calls, because most groups stay as they are; new ones are added.
    """
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        if len(members) < FEWEST_TO_SPLIT:
            continue
        key = members.tobytes()
        if key not in known:
            halves = [members[k_means(each[members], 2, seed).labels_ == 1] for each in vectors]
            known[key] = [half for half in halves if len(half)]  # none if all vectors are the same
        yield from known[key]


def corrections(
    edges: Sequence[sparse.csr_matrix], groups: Integers, halves: Iterable[Integers], now: Quality
) -> Iterator[tuple[Quality, Integers]]:
    """For each split, the best division with two other groups merged, if it is better than the one now.

    halves: the pictures that leave their group, for each split.
    """
    number = int(groups.max()) + 1
    for half in halves:
        divided = groups.copy()
        divided[half] = number
        modularities, cuts = quality_after_mergers(edges, divided)
        better = (modularities > now.modularity + LEAST_GAIN) & (cuts <= now.cut)
        better[groups[half[0]], number] = False  # the two halves
        if better.any():
            i, j = np.unravel_index(np.where(better, modularities, -np.inf).argmax(), better.shape)
            divided[divided == j] = i
            divided[divided == number] = j  # j is free now, or is `number` itself
            yield Quality(float(modularities[i, j]), float(cuts[i, j])), divided


def edges_between(edges: sparse.csr_matrix, groups: Integers) -> NDArray[np.float64]:
    """(groups, groups): how many edges lead from each group to each; those within a group count twice.

    edges: (N, N), from `edges_of`.
    """
    number, listed = int(groups.max()) + 1, edges.tocoo()
    places = groups[listed.row] * number + groups[listed.col]
    return np.bincount(places, listed.data, number**2).reshape(number, number).astype(np.float64)


def quality(edges: Sequence[sparse.csr_matrix], groups: Integers) -> Quality:
    """How well these groups divide the graphs."""
    return Quality(
        sum(modularity(each, groups) for each in edges), sum(normalised_cut(each, groups) for each in edges)
    )


def quality_after_mergers(
    edges: Sequence[sparse.csr_matrix], groups: Integers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `quality` would be if groups i and j were one: arrays (groups, groups), at [i, j] for i < j.

    Elsewhere the modularity is -inf and the cut inf.
    """
    number, now = int(groups.max()) + 1, quality(edges, groups)
    modularities, cuts = np.full((number, number), now.modularity), np.full((number, number), now.cut)
    for each in edges:
        counts = edges_between(each, groups)
        ends, within, total = counts.sum(1), np.diagonal(counts), counts.sum()
        modularities += 2 * counts / total - 2 * np.outer(ends, ends) / total**2
        own = _cut_of(within, ends)
        both = _cut_of(within[:, None] + within + 2 * counts, ends[:, None] + ends)
        cuts += both - own[:, None] - own
    lower = np.tri(number, dtype=bool)
    return np.where(lower, -np.inf, modularities), np.where(lower, np.inf, cuts)


def _cut_of(within: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of a group's ends of edges that belong to edges to other groups; 1 for a group without pictures."""
    share: NDArray[np.float64] = 1 - within / np.maximum(ends, 1)
    return share
