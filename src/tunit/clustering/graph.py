"""The graph that connects each picture with its nearest neighbours, and how well it falls into groups.

The sum of the n smallest eigenvalues of the graph's normalised Laplacian [1] shows how near the graph is to n
separate parts: the sum is 0 for n separate parts, and near n for a random graph. Modularity and the normalised cut
tell how well given groups divide the graph.

References:
    [1] von Luxburg. A tutorial on spectral clustering, Statistics and Computing 2007 (propositions 2 and 4).
    [2] Knyazev. Toward the optimal preconditioned eigensolver: LOBPCG, SIAM J. Sci. Comput. 2001.
    [3] Shi, Malik. Normalized cuts and image segmentation, PAMI 2000.
    [4] Newman. Modularity and community structure in networks, PNAS 2006.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import LinAlgWarning
from scipy.sparse.linalg import lobpcg
from torch import Tensor

from tunit.clustering.cues import Integers

GRAPH_NEIGHBOURS = 10  # nearest neighbours of each picture in the graph
# For the search for eigenvalues [2]: how many more vectors it uses than eigenvalues are wanted; its tolerance; its
# largest number of iterations; and how many pictures there must be, for each vector and at all. If there are fewer,
# all eigenvalues are computed.
SPARE_VECTORS, TOLERANCE, ITERATIONS, PICTURES_PER_VECTOR, SMALL_GRAPH = 5, 1e-6, 200, 5, 300


def edges_of(neighbours: Tensor) -> sparse.csr_matrix:
    """The graph of N pictures from their neighbours (N, k): (N, N), 1 where one is a neighbour of the other."""
    number, k = neighbours.shape
    rows = np.repeat(np.arange(number), k)
    one_way = sparse.csr_matrix(
        (np.ones(number * k), (rows, neighbours.cpu().numpy().ravel())), (number,) * 2
    )
    return one_way.maximum(one_way.T)


def modularity(edges: sparse.csr_matrix, groups: Integers) -> float:
    """Modularity [4]: how well groups (N,) divide the graph of N pictures, from -1/2 to below 1; about 0 at random.

    It is the share of edges within groups, minus the share to expect in a random graph in which every picture has the
    same number of edges as here. It prefers groups of equal size. edges: (N, N), from `edges_of`.
    """
    listed = edges.tocoo()
    within = listed.data[groups[listed.row] == groups[listed.col]].sum() / listed.data.sum()
    ends = np.bincount(groups[listed.row], listed.data) / listed.data.sum()
    return float(within - np.square(ends).sum())


def fitting_from(largest: float, share: float) -> float:
    """From which modularity on a division counts as fitting: this share of the largest one, which may be negative."""
    return min(largest, share * largest)


def normalised_cut(edges: sparse.csr_matrix, groups: Integers, number: int = 0) -> float:
    """Normalised cut [3]: how badly groups (N,) divide the graph of N pictures, from 0 to their number.

    For each group: which share of its edges' ends belongs to edges that leave the group? The shares of all groups are
    added. Unlike `modularity` it does not prefer groups of equal size: separate parts of the graph give 0, however
    large they are. edges: (N, N), from `edges_of`. number: how many groups there should be, if more than there are. A
    group without pictures counts as 1, the worst.
    """
    listed = edges.tocoo()
    ends = np.bincount(groups[listed.row], listed.data, number)
    leaving = np.bincount(
        groups[listed.row], listed.data * (groups[listed.row] != groups[listed.col]), len(ends)
    )
    return float(np.where(ends > 0, leaving / np.maximum(ends, 1), 1.0).sum())


def distances_from_separate_groups(neighbours: Tensor, numbers: Sequence[int]) -> list[float]:
    """How far the graph of N pictures is from having so many separate parts: from 0 (separate) to about their number.

    For each of the `numbers` it is the sum of as many smallest eigenvalues of the graph's normalised Laplacian [1].
    neighbours: (N, k) int64, the neighbours of each picture. Two pictures that are neighbours of each other have one
    edge, not two.
    """
    number = len(neighbours)
    most = min(max(numbers), number - 2)
    if most < 1:
        return [0.0] * len(numbers)
    # The Laplacian is I - A, so its smallest eigenvalues are 1 - A's largest.
    smallest = np.sort(1 - largest_eigenpairs(normalised(edges_of(neighbours)), most)[0])
    return [float(smallest[:groups].sum()) for groups in numbers]


def normalised(edges: sparse.csr_matrix) -> sparse.csr_matrix:
    """A: the graph (N, N), each edge divided by the roots of the numbers of edges that its two pictures have [1].

    A picture may have no edges.
    """
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(edges.sum(1)).ravel(), 1)))
    return scale @ edges @ scale


def largest_eigenpairs(
    matrix: sparse.csr_matrix, wanted: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `wanted` largest eigenvalues of a symmetric matrix (N, N), the largest last, and their vectors (N, wanted).

    An eigenvalue that is repeated is found as often. The eigenvalues must be at least -1. Methods that start from a
    single vector, such as Lanczos's, find only some of the copies of a repeated eigenvalue, and a graph with n
    separate parts has the eigenvalue 1 n times. So this starts from a block of vectors [2].
    """
    number, block = matrix.shape[0], wanted + SPARE_VECTORS
    if number < max(PICTURES_PER_VECTOR * block, SMALL_GRAPH):
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-wanted:], vectors[:, -wanted:]
    start = np.random.default_rng(0).standard_normal((number, block))  # fixed, so that runs are repeatable
    with warnings.catch_warnings():
        # Warnings that the spare vectors have not converged, which they need not, and that those of a separate part
        # have converged so well that a matrix is ill-conditioned. The eigenvalues are right to 1e-5.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        values, vectors = lobpcg(
            matrix + sparse.eye(number), start, largest=True, tol=TOLERANCE, maxiter=ITERATIONS
        )
    largest = np.argsort(values)[-wanted:]
    return values[largest] - 1, vectors[:, largest]
