"""Divide pictures into a given number of groups: several clusterings are made, and the best one is kept.

Heads trained by mutual information, and k-means on codes, features or cues, all end in local optima. Which clustering
is best differs from set to set. They are compared by the modularity of their groups on the graph of nearest
neighbours (tunit.clustering.measures), which needs no labels. The graph should be made before the heads are trained:
heads also shape the style codes, so a later graph would favour them.

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

RESTARTS = 4  # how often k-means starts; the result with the smallest sum of squared distances is kept


def best_partition(
    graph: Tensor, heads: Tensor, vectors: Mapping[str, Tensor], seed: int
) -> tuple[str, Integers, dict[str, float]]:
    """The clustering of N pictures with the highest modularity on a graph.

    graph: (N, k) int64, the neighbours of each picture. heads: (M, N, K) logits of M heads over K groups. vectors:
    (N, any width) by name; k-means is tried on each. Returns the name of the best clustering ("head 0", ..., or the
    name of the vectors), its groups (N,), and the modularity of each. If several are equally good, the first is
    taken.
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
    """k-means on N >= 1 vectors (N, width), the best of several random starts [1, 2]; `labels_` are the groups.

    centres: (k, width); start only once, from these.
    """
    start = {"init": "k-means++", "n_init": restarts} if centres is None else {"init": centres, "n_init": 1}
    found = KMeans(n_clusters=min(k, len(vectors)), random_state=seed % 2**32, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than k different pictures: fewer groups
        return found.fit(vectors)
