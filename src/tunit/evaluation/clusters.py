"""Figures of a clustering: its sizes, its separation by style codes, and its agreement with known classes.

References:
    [1] Kuhn. The Hungarian method for the assignment problem, 1955.
    [2] Strehl, Ghosh. Cluster ensembles, JMLR 2002 (normalised mutual information).
    [3] Hubert, Arabie. Comparing partitions, 1985 (adjusted Rand index).
    [4] TUNIT section 4.1 (inter- over intra-cluster distance, IOI).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tunit.clustering.cues import Integers

SMALLEST_DISTANCE = 1e-12  # a smaller mean distance counts as 0


def confusion_matrix(domains: Integers, classes: Integers, number: int = 0) -> Integers:
    """How many pictures of class j are in domain i: (domains, classes).

    domains, classes: (N,) integers from 0. number: the number of domains, including empty ones.
    """
    matrix = np.zeros((max(number, domains.max() + 1), classes.max() + 1), np.int64)
    np.add.at(matrix, (domains, classes), 1)
    return matrix


def rightly_matched(domains: Integers, classes: Integers) -> NDArray[np.bool_]:
    """Whether each picture's domain is matched to its class: (N,), under the one-to-one matching with the most such
    pictures [1].

    domains, classes: (N,) integers from 0. If there are more domains than classes, pictures of domains without a
    class count as wrong.
    """
    matrix = confusion_matrix(domains, classes)
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    class_of = np.full(len(matrix), -1)
    class_of[rows] = columns
    right: NDArray[np.bool_] = class_of[domains] == classes
    return right


def clustering_accuracy(domains: Integers, classes: Integers) -> float:
    """Share of pictures whose domain is matched to their class, as in `rightly_matched`."""
    return float(rightly_matched(domains, classes).mean())


def purity(domains: Integers, classes: Integers) -> float:
    """Share of pictures whose class is the most frequent one of their domain; several domains may share a class."""
    return float(confusion_matrix(domains, classes).max(1).sum() / len(domains))


def entropy(counts: NDArray[np.generic]) -> float:
    """The entropy, in nats, of the distribution counts / sum(counts)."""
    shares = np.asarray(counts, np.float64).ravel()
    shares = shares[shares > 0] / shares.sum()
    return float((shares * -np.log(shares)).sum()) + 0.0  # not -0, for a single group


def normalised_mutual_information(domains: Integers, classes: Integers) -> float:
    """NMI [2]: mutual information over the mean of both entropies, 0 to 1; 1 if both have only one group."""
    matrix = confusion_matrix(domains, classes)
    first, second = entropy(matrix.sum(1)), entropy(matrix.sum(0))
    if first + second == 0:
        return 1.0
    return max(0.0, 2 * (first + second - entropy(matrix)) / (first + second))


def adjusted_rand_index(domains: Integers, classes: Integers) -> float:
    """ARI [3]: agreement on pairs of pictures; 0 is expected by chance, 1 means equal partitions."""
    matrix = confusion_matrix(domains, classes)

    def pairs(counts: NDArray[np.int64]) -> float:
        """How many pairs of pictures are in the same group, for groups of these sizes."""
        return float((counts * (counts - 1) // 2).sum())

    both, first, second = pairs(matrix), pairs(matrix.sum(1)), pairs(matrix.sum(0))
    number = len(domains)
    total = number * (number - 1) / 2
    expected = first * second / total if total else 0.0
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def inter_over_intra(styles: NDArray[np.floating], domains: Integers) -> float | None:
    """IOI [4]: mean cosine distance between pictures of different clusters, divided by the mean within clusters.

    styles (N, width), domains (N,). None if it is undefined: for a single cluster, for clusters of one picture each,
    or if all pictures of each cluster are equal. It takes O(N width) time, because the sum of all cosines is the
    squared length of the summed vectors.
    """
    vectors = np.asarray(styles, np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    sizes = np.bincount(domains)
    sums = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(sums, domains, vectors)
    own = np.square(vectors).sum()  # the cosines of each picture with itself
    within = np.square(sums).sum() - own
    between = np.square(sums.sum(0)).sum() - np.square(sums).sum()
    pairs_within = float((sizes * (sizes - 1)).sum())
    pairs_between = float(len(domains) ** 2 - np.square(sizes).sum())
    if not pairs_within or not pairs_between:
        return None
    intra = 1 - within / pairs_within
    return None if intra < SMALLEST_DISTANCE else float((1 - between / pairs_between) / intra)


@dataclass(frozen=True)
class DomainSizes:
    """How the pictures are distributed over the domains."""

    sizes: list[int]
    entropy: float  # nats, up to ln(domains)
    effective: float  # exp(entropy): this many domains of equal size would have the same entropy


def domain_sizes(domains: Integers, number: int) -> DomainSizes:
    """The sizes of `number` domains, from the domain of each picture (N,)."""
    sizes = np.bincount(domains, minlength=number)
    spread = entropy(sizes)
    return DomainSizes(sizes.tolist(), spread, float(np.exp(spread)))


def domain_names(domains: Integers, classes: Integers, names: list[str]) -> dict[int, str]:
    """The most frequent class of each domain, for captions."""
    matrix = confusion_matrix(domains, classes)
    return {i: names[int(row.argmax())] for i, row in enumerate(matrix) if row.sum()}
