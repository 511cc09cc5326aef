"""Which measure separates pictures into groups best: style codes, a simple cue, or both together.

On some sets colours separate the kinds and outlines do not; on others it is the other way round. The best measure can
be found without labels, from a graph that connects each picture with its nearest neighbours. If the measure separates
the kinds, this graph has a few parts with few edges between them. The sum of the n smallest eigenvalues of the
graph's normalised Laplacian [1] shows how near the graph is to n separate parts: the sum is 0 for n separate parts,
and near n for a random graph.

References:
    [1] von Luxburg. A tutorial on spectral clustering, Statistics and Computing 2007 (propositions 2 and 4).
    [2] Halko, Martinsson, Tropp. Finding structure with randomness, SIAM Review 2011 (how the PCA is found).
    [3] Knyazev. Toward the optimal preconditioned eigensolver: LOBPCG, SIAM J. Sci. Comput. 2001.
    [4] Shi, Malik. Normalized cuts and image segmentation, PAMI 2000.
    [5] Newman. Modularity and community structure in networks, PNAS 2006.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lobpcg
from sklearn.decomposition import PCA
from torch import Tensor

from tunit.clustering.cues import CUES, Integers, Pictures, Vectors, by_chunks
from tunit.clustering.neighbours import find_neighbours

REDUCED = 64  # principal components that replace a wider cue
MOST_FITTED = 10_000  # the principal components are computed from at most this many pictures
GRAPH_NEIGHBOURS = 10  # nearest neighbours of each picture in the graph
MOST_COMPARED = 5_000  # measures are compared by graphs of at most this many pictures
# Two measures are about equally good if the sum of eigenvalues of one is at most a tenth larger than that of the
# other. LEAST_TIE covers rounding errors if the sums are 0.
TIE, LEAST_TIE = 0.1, 1e-6
# Up to this sum for each group, codes are nearly as separate as can be. A cue with a smaller sum may then only see
# fewer kinds: those that share their colours, say, are one part of the graph of colours.
NEARLY_SEPARATE = 0.005
# For the search for eigenvalues [3]: how many more vectors it uses than eigenvalues are wanted; its tolerance; its
# largest number of iterations; and how many pictures there must be for each vector. If there are fewer, all
# eigenvalues are computed.
SPARE_VECTORS, TOLERANCE, ITERATIONS, PICTURES_PER_VECTOR = 5, 1e-6, 200, 5


def reduced(vectors: Tensor, width: int = REDUCED) -> Tensor:
    """The first `width` principal components of vectors (N, any width), float32 on the CPU.

    Vectors with at most `width` numbers stay as they are. In our tests nearest neighbours by the components had the
    same class at least as often as by the whole vectors; for pixels, the search is 30 times as fast.
    """
    return reduction(vectors[:: _step_of_fitted(len(vectors))], width)(vectors)


def reduction(vectors: Tensor, width: int = REDUCED) -> Callable[[Tensor], Tensor]:
    """What `reduced` does, fitted to vectors (N, any width): a function of other such vectors."""
    if vectors.shape[1] <= width or len(vectors) <= width:
        return lambda others: others.float().cpu()
    # Equal vectors have a variance of 0, and its shares are NaN; they are not used here.
    with np.errstate(invalid="ignore"):
        found = PCA(width, svd_solver="randomized", random_state=0).fit(vectors.float().cpu().numpy())  # [2]
    return lambda others: torch.from_numpy(found.transform(others.float().cpu().numpy()).astype(np.float32))


def reduced_cues(images: Pictures, rows: Integers | None = None) -> dict[str, Tensor]:
    """Every cue that needs no training by name, as `reduced_cue` gives it."""
    return {name: reduced_cue(cue, images, rows) for name, cue in CUES.items()}


def reduced_cue(cue: Callable[[Pictures], Vectors], images: Pictures, rows: Integers | None = None) -> Tensor:
    """A cue, `reduced`: (N, at most REDUCED) float32, of pictures (N, S, S, 3). cue: gives (n, any width).

    rows: indices of the pictures to use; None for all. Of a large set, the cue is held in full only for the pictures
    to which its principal components are fitted.
    """
    every = np.arange(len(images)) if rows is None else rows
    fitted = every[:: _step_of_fitted(len(every))]
    vectors = torch.from_numpy(by_chunks(cue, images, fitted))
    narrow = reduction(vectors)
    if len(fitted) == len(every):
        return narrow(vectors)
    del vectors
    return torch.from_numpy(by_chunks(lambda some: narrow(torch.from_numpy(cue(some))).numpy(), images, rows))


def _step_of_fitted(number: int) -> int:
    """1: principal components are fitted to every picture; 2 or more: to every second, third, ... of a large set."""
    return max(1, -(-number // MOST_FITTED))


def edges_of(neighbours: Tensor) -> sparse.csr_matrix:
    """The graph of N pictures from their neighbours (N, k): (N, N), 1 where one is a neighbour of the other."""
    number, k = neighbours.shape
    rows = np.repeat(np.arange(number), k)
    one_way = sparse.csr_matrix(
        (np.ones(number * k), (rows, neighbours.cpu().numpy().ravel())), (number,) * 2
    )
    return one_way.maximum(one_way.T)


def modularity(edges: sparse.csr_matrix, groups: Integers) -> float:
    """Modularity [5]: how well groups (N,) divide the graph of N pictures, from -1/2 to below 1; about 0 at random.

    It is the share of edges within groups, minus the share to expect in a random graph in which every picture has the
    same number of edges as here. It prefers groups of equal size. edges: (N, N), from `edges_of`.
    """
    listed = edges.tocoo()
    within = listed.data[groups[listed.row] == groups[listed.col]].sum() / listed.data.sum()
    ends = np.bincount(groups[listed.row], listed.data) / listed.data.sum()
    return float(within - np.square(ends).sum())


def normalised_cut(edges: sparse.csr_matrix, groups: Integers, number: int = 0) -> float:
    """Normalised cut [4]: how badly groups (N,) divide the graph of N pictures, from 0 to their number.

    For each group: which share of its edges' ends belongs to edges that leave the group? The shares of all groups are
    added.
    Unlike `modularity` it does not prefer groups of equal size: separate parts of the graph give 0, however large
    they are. edges: (N, N), from `edges_of`. number: how many groups there should be, if more than there are. A
    group without pictures counts as 1, the worst.
    """
    listed = edges.tocoo()
    ends = np.bincount(groups[listed.row], listed.data, number)
    leaving = np.bincount(
        groups[listed.row], listed.data * (groups[listed.row] != groups[listed.col]), len(ends)
    )
    return float(np.where(ends > 0, leaving / np.maximum(ends, 1), 1.0).sum())


def distance_from_separate_groups(neighbours: Tensor, groups: int) -> float:
    """How far the graph of N pictures is from having `groups` separate parts: from 0 (separate) to about `groups`.

    It is the sum of the `groups` smallest eigenvalues of the graph's normalised Laplacian [1].
    neighbours: (N, k) int64, the neighbours of each picture. Two pictures that are neighbours of each other have one
    edge, not two.
    """
    number = len(neighbours)
    groups = min(groups, number - 2)
    if groups < 1:
        return 0.0
    edges = edges_of(neighbours)
    scale = sparse.diags(1 / np.sqrt(np.asarray(edges.sum(1)).ravel()))
    # The Laplacian is I - A, so its smallest eigenvalues are 1 - A's largest.
    return float((1 - largest_eigenvalues(scale @ edges @ scale, groups)).sum())


def largest_eigenvalues(matrix: sparse.csr_matrix, wanted: int) -> NDArray[np.float64]:
    """The `wanted` largest eigenvalues of a symmetric matrix (N, N), each as often as it is repeated.

    The eigenvalues must be at least -1. Methods that start from a single vector, such as Lanczos's, find only some
    of the copies of a repeated eigenvalue, and a graph with n separate parts has the eigenvalue 1 n times. So this
    starts from a block of vectors [3].
    """
    number, vectors = matrix.shape[0], wanted + SPARE_VECTORS
    if number < PICTURES_PER_VECTOR * vectors:
        all_values: NDArray[np.float64] = np.linalg.eigvalsh(matrix.toarray())
        return all_values[-wanted:]
    start = np.random.default_rng(0).standard_normal((number, vectors))  # fixed, so that runs are repeatable
    with warnings.catch_warnings():
        # A warning that the spare vectors have not converged; they need not.
        warnings.simplefilter("ignore", UserWarning)
        values, _ = lobpcg(
            matrix + sparse.eye(number), start, largest=True, tol=TOLERANCE, maxiter=ITERATIONS
        )
    return np.sort(values)[-wanted:] - 1


def choose_measures(
    codes: Tensor, cues: Mapping[str, Tensor], groups: int
) -> tuple[list[str], dict[str, float]]:
    """Choose what separates `groups` groups of pictures best: style codes, the best cue, or both together.

    codes: (N, width), the style codes; cues: (N, any width) by name. Returns the names of the chosen measures, and
    the result of `distance_from_separate_groups` for every measure and for "codes and" the best cue.
    If codes and the cue are about equally good, both are chosen if together they are about as good, because each has
    information that the other lacks; if not, codes, because they tell apart kinds that share the cue. If one is
    clearly better, both are chosen only if they are at least as good as that one, because the other may spoil it; if
    not, the better one, or codes where the difference is less than NEARLY_SEPARATE for each group.
    Of a large set only every n-th picture is compared, so that at most MOST_COMPARED remain.
    Raises ValueError if `groups` is less than 1.
    """
    if groups < 1:
        raise ValueError(f"groups is {groups}: without groups to separate, all measures are equally good")
    step = -(-len(codes) // MOST_COMPARED)
    measures = {name: vectors[::step] for name, vectors in {"codes": codes, **cues}.items()}
    k = min(GRAPH_NEIGHBOURS, len(measures["codes"]) - 1)

    def score(names: Sequence[str]) -> float:
        """How far the graph by these measures is from separate groups."""
        return distance_from_separate_groups(find_neighbours([measures[name] for name in names], k), groups)

    scores = {name: score([name]) for name in measures}
    cue = min(cues, key=lambda name: scores[name])
    both = f"codes and {cue}"
    scores[both] = score(["codes", cue])
    best, worse = sorted((scores["codes"], scores[cue]))
    tie = max(TIE * best, LEAST_TIE)
    if scores[both] <= best + (tie if worse <= best + tie else LEAST_TIE):
        return ["codes", cue], scores
    near = max(tie, NEARLY_SEPARATE * min(groups, len(measures["codes"]) - 2))
    return ["codes"] if scores["codes"] <= best + near else [cue], scores
