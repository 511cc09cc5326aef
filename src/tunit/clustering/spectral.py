"""Divide the graph of nearest neighbours into groups by its first eigenvectors: spectral clustering.

k-means in a vector space prefers round groups of equal size, whatever lies between them. The first eigenvectors of
the graph's normalised Laplacian [2] show along which few edges it falls apart. So these groups have other mistakes
than those of k-means, and the better division can be chosen (tunit.clustering.partition). If each picture has few
neighbours, near-copies are groups of their own; if it has many, similar kinds become one. So graphs with several
numbers of neighbours are divided, and the groups on which they agree are another division.

References:
    [1] Ng, Jordan, Weiss. On spectral clustering: analysis and an algorithm, NIPS 2001.
    [2] von Luxburg. A tutorial on spectral clustering, Statistics and Computing 2007.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import GRAPH_NEIGHBOURS, edges_of, largest_eigenpairs, normalised
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.partition import agreed_groups, repeated_k_means

NEIGHBOURS = (7, GRAPH_NEIGHBOURS, 14, 20)  # of each picture, in the graphs
MOST_GROUPS = 200  # with more groups the search for eigenvectors would take minutes


def spectral_divisions(measures: Sequence[Tensor], number: int, seed: int) -> dict[str, Integers]:
    """Divisions (N,) of N pictures into `number` groups by name: by one graph, and by several that agree.

    measures: vectors (N, any width) each, by which pictures are neighbours (`find_neighbours`). No divisions for more
    than MOST_GROUPS groups.
    """
    if number > MOST_GROUPS:
        return {}
    most = len(measures[0]) - 1
    runs = {k: spectral_runs(find_neighbours(measures, min(k, most)), number, seed) for k in NEIGHBOURS}
    everything = [groups for of_graph in runs.values() for groups in of_graph]
    return {
        "spectral": agreed_groups(runs[GRAPH_NEIGHBOURS], number),
        "spectral, agreed": agreed_groups(everything, number),
    }


def spectral_runs(neighbours: Tensor, number: int, seed: int) -> list[Integers]:
    """The groups (N,) of several runs of k-means on a picture's entries in the first eigenvectors, of length 1 [1].

    neighbours: (N, k) int64, the neighbours of each picture.
    """
    vectors = largest_eigenpairs(normalised(edges_of(neighbours)), number)[1]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return repeated_k_means(vectors / np.where(lengths > 0, lengths, 1), number, seed)
