"""By which measure pictures fall into groups: style codes, a simple cue, or both together.

On some sets colours tell kinds apart and outlines nothing, on others it is the other way round, and no label says
which. What tells it is the graph of each picture and its nearest neighbours: by a measure that sees kinds it falls
into a few pieces with few edges between them. How nearly it falls into n pieces is the sum of the n smallest
eigenvalues of its normalised Laplacian [1]: 0 for n separate pieces, near n for a random graph.

References:
    [1] von Luxburg. A tutorial on spectral clustering, Statistics and Computing 2007 (propositions 2 and 4).
    [2] Halko, Martinsson, Tropp. Finding structure with randomness, SIAM Review 2011 (how the PCA is found).
    [3] Newman. Modularity and community structure in networks, PNAS 2006.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import eigsh
from sklearn.decomposition import PCA
from torch import Tensor

from tunit.clustering.neighbours import find_neighbours

REDUCED = 64  # principal components that stand for a wider cue
MOST_FITTED = 10_000  # pictures that the components are found on
GRAPH_NEIGHBOURS = 10  # of each picture in the graph
MOST_COMPARED = 5_000  # pictures of the graphs that measures are compared by
# Two measures together may be worse than the better one by itself by a tenth, and by what is rounding.
TIE, LEAST_TIE = 0.1, 1e-9


def reduced(vectors: Tensor, width: int = REDUCED) -> Tensor:
    """Vectors (N, any width) by their `width` principal components, float32, on the CPU; narrower ones as they are.

    Distances keep what they say of the set (the nearest neighbours are of one class at least as often), in a
    thirtieth of the time for pixels.
    """
    vectors = vectors.float().cpu()
    if vectors.shape[1] <= width or len(vectors) <= width:
        return vectors
    step = -(-len(vectors) // MOST_FITTED)
    found = PCA(width, svd_solver="randomized", random_state=0).fit(vectors[::step].numpy())  # [2]
    return torch.from_numpy(found.transform(vectors.numpy()).astype(np.float32))


def edges_of(neighbours: Tensor) -> sparse.csr_matrix:
    """The graph of N pictures: (N, N), 1 where one of two has the other among its neighbours (N, k), else 0."""
    number, k = neighbours.shape
    rows = np.repeat(np.arange(number), k)
    one_way = sparse.csr_matrix(
        (np.ones(number * k), (rows, neighbours.cpu().numpy().ravel())), (number,) * 2
    )
    return one_way.maximum(one_way.T)


def modularity(neighbours: Tensor, groups: Tensor) -> float:
    """How well groups (N,) part the graph of N pictures [3]: from -1/2 to below 1, about 0 for groups drawn by lot.

    The share of edges within groups, less the share that there would be if edges were drawn by lot between pictures
    of as many edges. neighbours: (N, k) int64, those of each picture.
    """
    edges = edges_of(neighbours).tocoo()
    group = groups.cpu().numpy()
    within = edges.data[group[edges.row] == group[edges.col]].sum() / edges.data.sum()
    ends = np.bincount(group[edges.row], edges.data) / edges.data.sum()
    return float(within - np.square(ends).sum())


def edges_between_groups(neighbours: Tensor, groups: int) -> float:
    """How far the graph of N pictures is from `groups` separate pieces: from 0, separate, to about `groups`.

    neighbours: (N, k) int64, those of each picture; an edge counts once, whichever of the two has it.
    """
    number = len(neighbours)
    groups = min(groups, number - 2)
    if groups < 1:
        return 0.0
    edges = edges_of(neighbours)
    scale = sparse.diags(1 / np.sqrt(np.asarray(edges.sum(1)).ravel()))
    # The Laplacian is I - A: its smallest eigenvalues are A's largest. The start is fixed, so that runs repeat.
    start = np.random.default_rng(0).standard_normal(number)
    largest = eigsh(scale @ edges @ scale, groups, which="LA", v0=start, return_eigenvectors=False)
    return float((1 - largest).sum())


def choose_measures(
    codes: Tensor, cues: Mapping[str, Tensor], groups: int
) -> tuple[list[str], dict[str, float]]:
    """By which of codes, the best cue, and both together pictures fall most nearly into so many groups.

    codes: (N, width), the style codes; cues: (N, any width) by name. Returns the names of the chosen measures, and
    what `edges_between_groups` says of every measure and of "codes and" the best cue. Where both together are about
    as good as either by itself they are chosen, since each then says something that the other does not. Of a large
    set every second or third picture is compared.
    """
    step = -(-len(codes) // MOST_COMPARED)
    measures = {name: vectors[::step] for name, vectors in {"codes": codes, **cues}.items()}
    k = min(GRAPH_NEIGHBOURS, len(measures["codes"]) - 1)

    def score(names: Sequence[str]) -> float:
        """How far the graph by these measures is from separate groups."""
        return edges_between_groups(find_neighbours([measures[name] for name in names], k), groups)

    scores = {name: score([name]) for name in measures}
    cue = min(cues, key=lambda name: scores[name])
    both = f"codes and {cue}"
    scores[both] = score(["codes", cue])
    best = min(scores["codes"], scores[cue])
    if scores[both] <= best + max(TIE * best, LEAST_TIE):
        return ["codes", cue], scores
    return ["codes"] if scores["codes"] == best else [cue], scores
