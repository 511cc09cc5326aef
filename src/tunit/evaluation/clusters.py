"""Figures of a clustering against known classes.

References:
    [1] Kuhn. The Hungarian method for the assignment problem, 1955.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def confusion_matrix(domains: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pictures of class j lie in domain i: (largest domain + 1, largest class + 1)."""
    matrix = np.zeros((domains.max() + 1, classes.max() + 1), np.int64)
    np.add.at(matrix, (domains, classes), 1)
    return matrix


def clustering_accuracy(domains: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    """Share of pictures whose domain is matched to their class, under the best one-to-one matching [1].

    domains, classes: (N,) integers from 0. Where there are more domains than classes, the pictures of a domain
    without a class count as wrong.
    """
    matrix = confusion_matrix(domains, classes)
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    return float(matrix[rows, columns].sum() / len(domains))


def domain_names(domains: NDArray[np.int64], classes: NDArray[np.int64], names: list[str]) -> dict[int, str]:
    """The class that each domain holds most of, for captions."""
    matrix = confusion_matrix(domains, classes)
    return {i: names[int(row.argmax())] for i, row in enumerate(matrix) if row.sum()}
