"""Divide pictures into a given number of groups: several clusterings are combined, and the best division is kept.

Heads trained by mutual information, and k-means on codes, features or cues, all end in local optima: each merges some
kinds and splits others, but usually not the same ones. So two pictures count as the nearer, the more clusterings put
them into one group ("evidence accumulation" [3]), and most mistakes of a single clustering are outvoted. Several
divisions are compared on the graph of nearest neighbours, which needs no labels (tunit.clustering.graph). Neither
measure is enough alone. Modularity prefers groups of equal size: it cuts a large kind in two and merges small ones.
The normalised cut gives a group of its own to a series of near-copies, which is a separate part of the graph, and
merges two overlapping kinds to keep the number of groups. So modularity decides, unless the cut is clearly against
it.

A graph favours divisions by the vectors that it is made of. E's heads also shape its style codes, so a graph of the
final codes favours E's divisions; the graph of a cue, from which E may have learnt, favours k-means on this cue. So
both graphs are used if E has learnt from neighbours. But if E has hardly learnt what the first graph teaches, the
second one says little; so a division that does not fit the first must be clearly better. If E has learnt only styles,
no head has shaped its codes; once they fit the first graph, they have learnt from views what it lacks, and it no
longer counts (`has_learnt`). methods/final_domains.py makes the second graph of the final codes and of the cues that
help them; without `--neighbours`, and for more than 5,000 pictures, it has only this one.

References:
    [1] Lloyd. Least squares quantization in PCM, 1982 (k-means). [2] Arthur, Vassilvitskii. k-means++, 2007.
    [3] Fred, Jain. Combining multiple clusterings using evidence accumulation, PAMI 2005.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import edges_of, fitting_from, modularity, normalised_cut

# A normalised cut overrules modularity if it is less than this share of the other division's cut.
CLEARLY_SMALLER = 0.5
# Of two graphs: from which share of the largest modularity on the first graph a division fits it, and how much larger
# the sum of modularities must be of one that does not.
FITS, NOT_FITTING = 0.9, 0.1
# From which share of the largest modularity on what it was taught E has learnt it. After 50 s on a CPU the best
# division by codes had 0.59 to 0.99 of it (materials, objects, digits, fruit); after five minutes 0.94 to 1.
LEARNT = 0.97
RESTARTS = 4  # how often k-means starts; the result with the smallest sum of squared distances is kept
REPEATS = 32  # runs of k-means, from different starts, whose groups are combined
# How many pieces kinds are cut into, before they are joined again: from 3 to 6 times the number of groups that is
# wanted, but at most one for FEWEST_IN_PIECE pictures.
PIECES, FEWEST_IN_PIECE = (3, 6), 5


def best_partition(
    graphs: Sequence[Tensor], divisions: Mapping[str, Integers]
) -> tuple[str, dict[str, float]]:
    """The name of the best division of N pictures, and the normalised cut of each, summed over the graphs.

    graphs: (N, k) int64 each, the neighbours of each picture; if there are two, the one from which E has learnt comes
    first. divisions: the group of each picture (N,), by name. The best one has the largest modularity, summed over
    the graphs, unless the smallest cut is less than CLEARLY_SMALLER times the cut of that one. A division fits if its
    modularity on the first graph is at least FITS times the largest there. Of two graphs, the smallest cut is that of
    divisions that fit, and NOT_FITTING is subtracted from the modularity of others.
    If a division has fewer groups than others, each group that it lacks counts as a cut of 1. If several are equally
    good, the first is taken.
    """
    most = max(int(groups.max()) + 1 for groups in divisions.values())
    edges = [edges_of(graph) for graph in graphs]
    within = {name: [modularity(each, groups) for each in edges] for name, groups in divisions.items()}
    cuts = {
        name: sum(normalised_cut(each, groups, most) for each in edges) for name, groups in divisions.items()
    }
    least = fitting_from(max(first for first, *_ in within.values()), FITS)
    fitting = [name for name in divisions if len(graphs) == 1 or within[name][0] >= least]
    balanced = max(divisions, key=lambda name: sum(within[name]) - (0 if name in fitting else NOT_FITTING))
    separate = min(fitting, key=lambda name: cuts[name])
    return separate if cuts[separate] < CLEARLY_SMALLER * cuts[balanced] else balanced, cuts


def has_learnt(taught: Tensor, divisions: Mapping[str, Integers], best: str) -> bool:
    """Whether E has learnt what a graph teaches: the best division by the graph of its own codes fits that one.

    taught: (N, k) int64, neighbours of each picture. best: the name of that division. It fits if its modularity on
    the graph is at least LEARNT times the largest there.
    """
    edges = edges_of(taught)
    within = {name: modularity(edges, groups) for name, groups in divisions.items()}
    return within[best] >= fitting_from(max(within.values()), LEARNT)


def agreed_groups(clusterings: Sequence[Integers], number: int) -> Integers:
    """Divide N pictures into `number` groups on which several clusterings agree [3].

    clusterings: (N,) each, with any number of groups. The distance of two pictures is the share of clusterings that
    separate them; the groups are merged by average linkage. Returns (N,), from 0 to number - 1. The memory grows with
    the square of N: about 550 MB for 5,000 pictures.
    """
    number = min(number, len(clusterings[0]))
    if number == 1:
        return np.zeros(len(clusterings[0]), np.int64)
    together = np.zeros((len(clusterings[0]),) * 2, np.float32)
    for each in clusterings:  # one by one, so that the memory does not grow with the number of groups
        together += each[:, None] == each[None]
    distances = np.clip(1 - together / np.float32(len(clusterings)), 0, 1)
    merged = AgglomerativeClustering(number, metric="precomputed", linkage="average")
    groups: Integers = merged.fit_predict(distances).astype(np.int64)
    return groups


def agreement(clusterings: Sequence[Integers]) -> float:
    """How much two or more clusterings (N,) agree: the mean normalised mutual information of pairs, from 0 to 1."""
    pairs = combinations(clusterings, 2)
    return float(np.mean([normalized_mutual_info_score(one, other) for one, other in pairs]))


def repeated_k_means(vectors: NDArray[np.floating], k: int, seed: int) -> list[Integers]:
    """The groups (N,) of REPEATS runs of k-means on N vectors, each from one random start."""
    return _runs_of_k_means(vectors, [k] * REPEATS, seed)


def k_means_in_pieces(vectors: NDArray[np.floating], number: int, seed: int) -> list[Integers]:
    """As `repeated_k_means`, but into several times as many groups as `number`: from run to run more of them.

    k-means prefers groups of equal size: it cuts a large kind in two and merges small kinds. If there are
    many groups, it cuts every kind into pieces, in each run others, which `agreed_groups` joins again [3].
    """
    most = max(number, len(vectors) // FEWEST_IN_PIECE)
    fewest, largest = (min(times * number, most) for times in PIECES)
    return _runs_of_k_means(vectors, np.linspace(fewest, largest, REPEATS).round().astype(int).tolist(), seed)


def _runs_of_k_means(vectors: NDArray[np.floating], numbers: Sequence[int], seed: int) -> list[Integers]:
    """One run of k-means for each number of groups."""
    return [k_means(vectors, k, seed + i, restarts=1).labels_.astype(np.int64) for i, k in enumerate(numbers)]


def k_means(
    vectors: NDArray[np.floating],
    k: int,
    seed: int,
    restarts: int = RESTARTS,
    centres: NDArray[np.floating] | None = None,
) -> KMeans:
    """k-means on N >= 1 vectors (N, width), the best of several random starts [1, 2]; `labels_` are the groups.

    centres: (k, width); start only once, from these.
    """
    start = {"init": "k-means++", "n_init": restarts} if centres is None else {"init": centres, "n_init": 1}
    found = KMeans(n_clusters=min(k, len(vectors)), random_state=seed % 2**32, **start)
    with warnings.catch_warnings():
        # A warning if there are fewer than k different pictures, and therefore fewer groups.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return found.fit(vectors)
