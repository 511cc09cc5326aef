"""Divide pictures into groups by maps: t-SNE places them in a plane, and average linkage joins those near each other.

Modularity, k-means and eigenvectors prefer groups of equal size. t-SNE [1] keeps each picture near its neighbours and
spreads dense and sparse places alike, so that kinds of any size are separated by gaps on the map. But which groups
lie side by side is partly chance. So maps are made at several scales and from several random starts, and their groups
are combined (tunit.clustering.partition).

Neither these groups nor those that are refined on graphs (tunit.clustering.refinement) are better on all sets, and
graphs do not tell which ones are: they prefer the latter. But groups that exist are found again and again, whatever
the start and the scale [2]. So those of the maps are taken if the maps agree as much among themselves.

References:
    [1] van der Maaten. Accelerating t-SNE using tree-based algorithms, JMLR 2014.
    [2] von Luxburg. Clustering stability: an overview, Foundations and Trends in Machine Learning 2010.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import AgglomerativeClustering
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.clustering.graph import GRAPH_NEIGHBOURS
from tunit.clustering.neighbours import neighbours_and_distances
from tunit.clustering.partition import agreed_groups, agreement

# t-SNE's perplexities (about how many neighbours of each picture count) if groups have this many pictures on average,
# or more. If they have fewer, so have the neighbourhoods, because they must fit into a group; below LEAST there are
# no maps.
PERPLEXITIES, PICTURES_IN_GROUP, LEAST = (30, 60, 100), 150, 5
LOOKED_AT = 3  # t-SNE looks at this many times as many neighbours
STARTS = 2  # maps of each perplexity
# Maps agree as much as refined divisions if the difference is at most this. Refinement leads different divisions to
# the same one, and in six of seven such cases the maps' groups were better (in the seventh, both were equal).
TIE = 0.005
# Refined divisions that agree as much as this (normalised mutual information of pairs) stay, without any map, because
# maps hardly ever agree more. It saves their time where groups are clear.
CERTAIN = 0.99


def more_certain(
    found: Integers, refined: Sequence[Integers], measures: Sequence[Tensor], number: int, seed: int
) -> Integers:
    """The groups `found` (N,), or those by maps if these agree as much among themselves as the `refined` divisions.

    found: the best of the refined divisions. refined: (N,) each; if there is only one, it stays. measures: vectors
    (N, any width) each, by which pictures are neighbours (`find_neighbours`). number: how many groups.
    """
    if len(refined) < 2:
        return found
    certain = agreement(refined)
    if certain >= CERTAIN:
        return found
    divisions = divisions_of_maps(measures, number, seed)
    agree = bool(divisions) and agreement(divisions) >= certain - TIE
    return agreed_groups(divisions, number) if agree else found


def divisions_of_maps(measures: Sequence[Tensor], number: int, seed: int) -> list[Integers]:
    """Divisions (N,) of N pictures into `number` groups, one by each map; none for too few pictures.

    measures: as in `more_certain`. The same seed gives the same divisions.
    """
    pictures = len(measures[0])
    share = min(1.0, pictures / number / PICTURES_IN_GROUP)
    looked_at = [round(LOOKED_AT * share * perplexity) + 1 for perplexity in PERPLEXITIES]
    if max(looked_at) >= pictures or share * min(PERPLEXITIES) < LEAST:
        return []
    distances, neighbours = neighbours_and_distances(measures, max(looked_at), GRAPH_NEIGHBOURS)
    joined = AgglomerativeClustering(number, linkage="average")
    divisions = []
    for perplexity, k in zip(PERPLEXITIES, looked_at, strict=True):
        graph = _graph_of(distances[:, :k], neighbours[:, :k])
        maps = [_map_of(graph, share * perplexity, seed + start) for start in range(STARTS)]
        divisions += [joined.fit_predict(places) for places in maps]
    return divisions


def _map_of(graph: sparse.csr_matrix, perplexity: float, seed: int) -> NDArray[np.float32]:
    """t-SNE's places (N, 2) of N pictures. graph: (N, N), their distances from their nearest neighbours."""
    tsne = TSNE(perplexity=perplexity, metric="precomputed", init="random", random_state=seed % 2**32)
    # Several threads would add in another order each time, and small differences grow.
    with threadpool_limits(1):
        places: NDArray[np.float32] = tsne.fit_transform(graph)
    return places


def _graph_of(distances: Tensor, neighbours: Tensor) -> sparse.csr_matrix:
    """(N, N): each picture's distances (N, k) from its neighbours (N, k), nearest first, and 0 from itself."""
    number, k = neighbours.shape
    itself = torch.arange(number)[:, None]
    columns = torch.cat([itself, neighbours.cpu()], dim=1).numpy()
    values = torch.cat([torch.zeros(number, 1), distances.float().cpu()], dim=1).numpy()
    ends = np.arange(number + 1) * (k + 1)
    return sparse.csr_matrix((values.ravel(), columns.ravel(), ends), (number, number))
