"""Distances between two sets of features, as distributions: FID and KID.

References:
    [1] Heusel et al. GANs trained by a two time-scale update rule converge to a local Nash equilibrium, NeurIPS
        2017 (FID). [2] Binkowski et al. Demystifying MMD GANs, ICLR 2018 (KID).
    [3] Chan, Golub, LeVeque. Algorithms for computing the sample variance, 1983 (merging of moments).
    [4] Shao, Wu. A general theory for jackknife variance estimation, 1989 (delete-d jackknife).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tunit.errors import DataError

SUBSETS, SUBSET_SIZE = 100, 1000  # KID is computed on this many subsets of this many pictures, as in [2]
ERROR_SUBSETS = 50  # other subsets, from which KID's standard error is estimated
# For this estimate, subsets hold at least this many pictures of the smaller set, or half of it if that is fewer.
LEAST_OF_SMALLER = 10
FEWEST_FOR_KID = 4  # with fewer pictures, half of them are too few for KID, so it has no standard error


class FeatureMoments:
    """Mean and covariance, in float64, of features that come in batches, which are merged as in [3].

    The memory is that of one (width, width) matrix, for any number of pictures.
    """

    def __init__(self) -> None:
        self.number = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    def add(self, features: Tensor) -> "FeatureMoments":
        """Add a batch of features (B, width). Returns this object."""
        features = features.double()
        if not len(features):
            return self
        mean = features.mean(0)
        centred = features - mean
        scatter = centred.T @ centred
        if not self.number:
            self.number, self.mean, self._scatter = len(features), mean, scatter
            return self
        total = self.number + len(features)
        shift = mean - self.mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.number * len(features) / total)
        self.mean = self.mean + shift * (len(features) / total)
        self.number = total
        return self

    @property
    def covariance(self) -> Tensor:
        """(width, width), unbiased. Raises DataError for fewer than two pictures."""
        if self.number < 2:
            raise DataError(f"a covariance needs at least 2 pictures and there are {self.number}: add some")
        return self._scatter / (self.number - 1)


def frechet_distance(a: FeatureMoments, b: FeatureMoments) -> float:
    """FID [1] between two Gaussians: |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr (A^1/2 B A^1/2)^1/2.

    The matrix under the root is symmetric and positive, so the trace is the sum of the roots of its eigenvalues,
    which is always real. (The usual form with the root of A B, which is not symmetric, becomes complex for few
    pictures.)
    """
    if a.mean.shape != b.mean.shape:
        raise DataError(
            f"features of width {len(a.mean)} and {len(b.mean)} cannot be compared: use the same feature network"
        )
    first, second = a.covariance, b.covariance
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt()  # root @ root.T is `first`
    inner = root.T @ second @ root  # similar to A^1/2 B A^1/2
    cross = torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * cross
    return max(float(distance), 0.0)


def frechet_distance_of(a: Tensor, b: Tensor) -> float:
    """FID [1] of two sets of features, (N, width) and (M, width), computed by the faster of two equal formulas.

    With X and Y the centred features, tr (A B)^1/2 is the sum of the singular values of X Y^T / sqrt((N - 1)(M - 1)).
    This matrix is (N, M), which for few pictures is far smaller than (width, width).
    """
    if min(len(a), len(b)) >= a.shape[1] or a.shape[1:] != b.shape[1:]:
        return frechet_distance(FeatureMoments().add(a), FeatureMoments().add(b))
    if min(len(a), len(b)) < 2:
        raise DataError(f"FID needs at least 2 pictures on each side: there are {len(a)} and {len(b)}")
    a, b = (a, b) if len(a) <= len(b) else (b, a)
    a, b = a.double(), b.double()
    x = (a - a.mean(0)) / (len(a) - 1) ** 0.5
    y = (b - b.mean(0)) / (len(b) - 1) ** 0.5
    products = x @ y.T
    cross = torch.linalg.eigvalsh(products @ products.T).clamp_min(0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * cross
    return max(float(distance), 0.0)


class KernelDistance(NamedTuple):
    """KID over random subsets: its mean, and the standard error of this mean."""

    mean: float
    error: float  # because both sets are samples, and because not all subsets are taken
    subsets: int
    subset_size: int


def kernel_distance(
    a: Tensor, b: Tensor, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = 0
) -> KernelDistance:
    """KID [2]: unbiased squared MMD under the kernel (x.y / width + 1)^3, over random subsets of both sets.

    a (N, width), b (M, width): features of at least 4 pictures each. Subsets are at most as large as the smaller set.
    The estimate is unbiased, so it may be slightly below 0 for very similar sets.
    """
    size = min(subset_size, len(a), len(b))
    if size < FEWEST_FOR_KID:
        raise DataError(
            f"KID needs at least {FEWEST_FOR_KID} pictures on each side: there are {len(a)} and {len(b)}"
        )
    a, b = a.double(), b.double()
    generator = torch.Generator().manual_seed(seed)
    found = [squared_mmd(*(_drawn(x, size, generator) for x in (a, b))) for _ in range(subsets)]
    values = torch.stack(found)
    left_out = float(values.std(correction=0)) / subsets**0.5
    error = (left_out**2 + _variance(a, b, subset_size, generator)) ** 0.5
    return KernelDistance(float(values.mean()), error, subsets, size)


def _variance(a: Tensor, b: Tensor, subset_size: int, generator: torch.Generator) -> float:
    """The variance of KID between samples of the sizes of a and b, by the delete-d jackknife [4].

    Over random subsets, each with a share s of both sets, the variance of KID is 1 / s - 1 times the one wanted here,
    because it is proportional to 1 / size. (If the two distributions are equal, it falls faster with the size, and
    the result is too large.)

    If one set is far larger than the other, a part of it is enough: its share of the variance is small then.
    """
    most = max(subset_size // LEAST_OF_SMALLER, 1) * min(len(a), len(b))
    a, b = (x if len(x) <= most else _drawn(x, most, generator) for x in (a, b))
    share = min(0.5, subset_size / max(len(a), len(b)))
    sizes = [(x, max(2, round(share * len(x)))) for x in (a, b)]
    values = [squared_mmd(*(_drawn(x, size, generator) for x, size in sizes)) for _ in range(ERROR_SUBSETS)]
    return float(torch.stack(values).var()) * share / (1 - share)


def _drawn(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` different rows of x, at random."""
    return x[torch.randperm(len(x), generator=generator)[:size].to(x.device)]


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate of the squared maximum mean discrepancy of two sets, (n, width) and (m, width)."""

    def kernel(p: Tensor, q: Tensor) -> Tensor:
        """(rows of p, rows of q): the kernel of each pair."""
        return (p @ q.T / p.shape[1] + 1) ** 3

    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return within[0] + within[1] - 2 * kernel(x, y).mean()
