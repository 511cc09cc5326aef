"""Pictures in a given number of groups: several clusterings, of which the one is kept that cuts fewest edges.

Heads that learn by mutual information, and k-means on codes, features or cues, each end in local optima, and which of
them is right differs from set to set. They are compared by the modularity of their groups on a graph of pictures and
their neighbours (tunit.clustering.measures), which needs no labels. The graph should be older than the heads: one of
codes that the heads have shaped speaks for the heads.

References:
    [1] Lloyd. Least squares quantization in PCM, 1982 (k-means). [2] Arthur, Vassilvitskii. k-means++, 2007.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.measures import modularity

RESTARTS = 4  # of k-means, of which the best by its own measure is kept


def best_partition(
    graph: Tensor, heads: Tensor, vectors: Mapping[str, Tensor], seed: int
) -> tuple[str, Integers, dict[str, float]]:
    """The groups of N pictures that part a graph best.

    graph: (N, k) int64, the neighbours of each. heads: (M, N, K) logits, each of which says a group from 0 to K - 1.
    vectors: (N, any width) by name, on which k-means is tried, too. Returns the name of the best ("head 0", ..., or
    that of vectors), its groups (N,), and the modularity of every one. Of equally good ones the first head wins.
    """
    groups = {f"head {i}": logits.argmax(1).numpy() for i, logits in enumerate(heads)}
    for name, some in vectors.items():
        groups[name] = k_means(some.numpy(), heads.shape[2], seed).labels_.astype(np.int64)
    scores = {name: modularity(graph, torch.from_numpy(some)) for name, some in groups.items()}
    best = max(scores, key=lambda name: scores[name])
    return best, groups[best], scores


def k_means(
    vectors: NDArray[np.floating],
    k: int,
    seed: int,
    restarts: int = RESTARTS,
    centres: NDArray[np.floating] | None = None,
) -> KMeans:
    """The best of some starts [1, 2] on vectors (N, width), N from 1; `labels_` are their groups.

    centres: (k, width), to start from these alone.
    """
    start = {"init": "k-means++", "n_init": restarts} if centres is None else {"init": centres, "n_init": 1}
    found = KMeans(n_clusters=min(k, len(vectors)), random_state=seed % 2**32, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than k different pictures: fewer groups
        return found.fit(vectors)
