"""Improve a division of pictures: move single pictures, or split one group and merge two others.

The usual mistake of a clustering with a given number of groups is to merge two kinds and to split a third one. Runs
from other starts make other such mistakes (tunit.clustering.partition), but even the best of some divisions may still
have one. A split and a merger at once can correct it, and keep the number of groups. This is the idea of ISODATA [1],
with a criterion of graphs [2, 3] instead of distances. A group is split by k-means, or by the second eigenvector of
its part of the graphs, at the place with the smallest normalised cut [3].

References:
    [1] Ball, Hall. ISODATA, a novel method of data analysis and pattern classification, 1965.
    [2] Newman. Modularity and community structure in networks, PNAS 2006.
    [3] Shi, Malik. Normalized cuts and image segmentation, PAMI 2000.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import (
    edges_of,
    fitting_from,
    largest_eigenpairs,
    modularity,
    normalised,
    normalised_cut,
)
from tunit.clustering.moves import LEAST_GAIN, Graphs, moved
from tunit.clustering.partition import CLEARLY_SMALLER, k_means

FEWEST_IN_HALF = 5  # pictures on either side of a split
MOST_GROUPS = 200  # with more groups the search would take minutes
MOST_CORRECTIONS = 20
FITS = 0.5  # as a share of the largest modularity of the groups on any of the graphs
# Another division is taken if, refined, it is better by this much on each graph. Divisions in which one kind is split
# and two others are merged were worse by 0.005 to 0.008 than those without this mistake.
CLEARLY_BETTER = 0.004
MOST_COMPARED = 50  # with more groups, only one division is refined, because each takes several seconds
TRIED = 8  # of all corrections, how many are tried with moves of single pictures: those with the largest modularity

Halves = dict[bytes, list[Integers]]  # by the members of a group: one half of each way to split it


class Quality(NamedTuple):
    """How well groups divide some graphs."""

    modularity: float  # summed over the graphs; larger is better
    cut: float  # normalised cuts, summed over the graphs; smaller is better


def best_refined(
    graphs: Sequence[Tensor],
    divisions: Mapping[str, Integers],
    first: str,
    vectors: Sequence[NDArray[np.floating]],
    seed: int,
) -> tuple[Integers, list[Integers]]:
    """The groups (N,) of the division named `first`, `refined`, unless another one is clearly better after that.
    And every division that was refined.

    From some divisions no correction leads out of a mistake that others do not have. Compared is the modularity minus
    the normalised cut per group, summed over the graphs. As in `best_partition`, another division does not count if
    its cut is so much larger that it may have split a large kind. graphs, vectors: as in `refined`. divisions: the
    group of each picture (N,), by name.
    """
    found = refined(graphs, divisions[first], vectors, seed)
    number = int(divisions[first].max()) + 1
    if number > MOST_COMPARED:
        return found, [found]
    edges = [edges_of(graph) for graph in graphs]

    def score(groups: Integers) -> float:
        both = quality(edges, groups)
        return both.modularity - both.cut / number

    others = [refined(graphs, groups, vectors, seed) for name, groups in divisions.items() if name != first]
    own_cut = quality(edges, found).cut
    counting = [each for each in others if CLEARLY_SMALLER * quality(edges, each).cut <= own_cut]
    better = max(counting, key=score, default=found)
    best = better if score(better) > score(found) + CLEARLY_BETTER * len(graphs) else found
    return best, [found, *others]


def refined(
    graphs: Sequence[Tensor], groups: Integers, vectors: Sequence[NDArray[np.floating]], seed: int
) -> Integers:
    """The groups (N,), from 0 to their number - 1, after corrections: in each, one group is split and two are merged.

    graphs: (N, k) int64 each, the neighbours of each picture. vectors: (N, any width) each. First, groups are split
    by k-means on any of the vectors. Then single pictures move to other groups, and groups are split on the graphs;
    after each of these corrections, single pictures move again. A graph counts only if the groups fit it: if their
    modularity there is at least FITS times that on the other graph. The number of groups stays the same. More than
    MOST_GROUPS groups stay as they are.
    """
    if groups.max() >= MOST_GROUPS:
        return groups
    edges = [edges_of(graph) for graph in graphs]
    fit = [modularity(each, groups) for each in edges]
    least = fitting_from(max(fit), FITS)
    edges = [each for each, own in zip(edges, fit, strict=True) if own >= least]
    known = Halves()

    def by_vectors(groups: Integers, now: Quality) -> list[Integers]:
        return corrections(edges, groups, splits_of_vectors(groups, vectors, seed, known), now.cut)

    def by_graphs(groups: Integers, now: Quality) -> list[Integers]:
        found = corrections(edges, groups, splits_of_graphs(edges, groups))
        return [moved(edges, each) for each in found[:TRIED]]

    groups = corrected(edges, groups, by_vectors, cut_may_rise=False)
    # Moves of single pictures change the cut, too, so here it need not fall with every correction.
    return corrected(edges, moved(edges, groups), by_graphs, cut_may_rise=True)


def corrected(
    edges: Graphs,
    groups: Integers,
    corrections_of: Callable[[Integers, Quality], list[Integers]],
    *,
    cut_may_rise: bool,
) -> Integers:
    """The groups after as many corrections as make them better, but at most MOST_CORRECTIONS.

    corrections_of: gives the groups after each of several corrections, from the groups and their quality.
    Of several corrections, the one with the largest modularity is made, if modularity becomes larger and the cut
    does not: modularity alone would split a large kind and merge two small ones. cut_may_rise: the cut may rise again
    after it has fallen, but not above that of the given groups.
    """
    first = now = quality(edges, groups)
    for _ in range(MOST_CORRECTIONS):
        better = [
            (found, each)
            for found, each in ((quality(edges, each), each) for each in corrections_of(groups, now))
            if found.modularity > now.modularity + LEAST_GAIN
            and found.cut <= (first if cut_may_rise else now).cut
        ]
        if not better:
            break
        now, groups = max(better, key=lambda each: each[0])
    return groups


def corrections(
    edges: Graphs, groups: Integers, halves: Iterable[Integers], largest_cut: float = np.inf
) -> list[Integers]:
    """For each split, the groups after it and after the merger of two others that gives the largest modularity; the
    largest of all first. It need not be larger than now.

    halves: the pictures that leave their group, for each split. largest_cut: mergers with a larger cut do not count.
    """
    number = int(groups.max()) + 1
    found = []
    for half in halves:
        divided = groups.copy()
        divided[half] = number
        modularities, cuts = quality_after_mergers(edges, divided)
        modularities[cuts > largest_cut] = -np.inf
        modularities[groups[half[0]], number] = -np.inf  # the two halves
        i, j = np.unravel_index(modularities.argmax(), modularities.shape)
        if np.isfinite(modularities[i, j]):  # not if there are no such two groups
            divided[divided == j] = i
            divided[divided == number] = j  # j is free now, or is `number` itself
            found.append((float(modularities[i, j]), divided))
    found.sort(key=lambda each: -each[0])
    return [divided for _, divided in found]


def splits_of_vectors(
    groups: Integers, vectors: Sequence[NDArray[np.floating]], seed: int, known: Halves
) -> Iterator[Integers]:
    """For each large enough group and each of the vectors: the pictures that leave the group if k-means splits it.

    known: the halves of earlier calls, because most groups stay as they are; new ones are added.
    """
    for members in large_groups(groups):
        key = members.tobytes()
        if key not in known:
            halves = [members[k_means(each[members], 2, seed).labels_ == 1] for each in vectors]
            known[key] = [half for half in halves if len(half)]  # none if all vectors are the same
        yield from known[key]


def splits_of_graphs(edges: Graphs, groups: Integers) -> Iterator[Integers]:
    """For each large enough group: the pictures that leave the group if its part of the graphs is split."""
    for members in large_groups(groups):
        yield members[half_of(sum(each[members][:, members] for each in edges))]


def large_groups(groups: Integers) -> Iterator[Integers]:
    """The pictures of each group that has enough of them to be split."""
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        if len(members) >= 2 * FEWEST_IN_HALF:
            yield members


def half_of(edges: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Which pictures are on one side if a graph (N, N) is split in two, with at least FEWEST_IN_HALF on each side.

    The pictures are sorted by the second eigenvector, and of all places to split them, the one with the smallest
    normalised cut is taken [3].
    """
    ends = np.maximum(np.asarray(edges.sum(1)).ravel(), 1)  # 1 for a picture without edges
    _, vectors = largest_eigenpairs(normalised(edges), 2)
    order = np.argsort(vectors[:, 0] / np.sqrt(ends), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    listed = edges.tocoo()
    # An edge from place p to a later place q is cut by all splits after places p to q - 1.
    p, q = place[listed.row], place[listed.col]
    later = p < q
    begins = np.bincount(p[later], listed.data[later], len(order))
    ended = np.bincount(q[later], listed.data[later], len(order))
    cut = np.cumsum(begins - ended)
    before = np.cumsum(ends[order])
    after = before[-1] - before
    cuts = (cut / before + cut / np.maximum(after, 1))[FEWEST_IN_HALF - 1 : -FEWEST_IN_HALF]
    half = np.zeros(len(order), bool)
    half[order[: FEWEST_IN_HALF + int(cuts.argmin())]] = True
    return half


def edges_between(edges: sparse.csr_matrix, groups: Integers) -> NDArray[np.float64]:
    """(groups, groups): how many edges lead from each group to each; those within a group count twice.

    edges: (N, N), from `edges_of`.
    """
    number, listed = int(groups.max()) + 1, edges.tocoo()
    places = groups[listed.row] * number + groups[listed.col]
    return np.bincount(places, listed.data, number**2).reshape(number, number).astype(np.float64)


def quality(edges: Graphs, groups: Integers) -> Quality:
    """How well these groups divide the graphs."""
    return Quality(
        sum(modularity(each, groups) for each in edges), sum(normalised_cut(each, groups) for each in edges)
    )


def quality_after_mergers(edges: Graphs, groups: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
