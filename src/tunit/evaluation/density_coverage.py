"""Fidelity and diversity by nearest neighbours: density, coverage, precision, recall.

References:
    [1] Naeem et al. Reliable fidelity and diversity metrics for generative models, ICML 2020 (D&C).
    [2] Kynkaanniemi et al. Improved precision and recall metric, NeurIPS 2019.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunit.errors import DataError

NEAREST = 5  # k
ROWS = 1024  # rows of the distance matrix at a time; with 50,000 columns of float32 they take 200 MB


@dataclass(frozen=True)
class Neighbourhoods:
    """What each picture contributes to the four figures, in float64. The figures are means over these values, and can
    be resampled.
    """

    density: Tensor  # (fakes,) the number of real balls that contain the fake, over k
    coverage: Tensor  # (reals,) whether the nearest fake lies in the real picture's ball
    precision: Tensor  # (fakes,) whether the fake lies in any real ball
    recall: Tensor | None  # (reals,) whether the real picture lies in any fake's ball


def neighbourhoods(
    real: Tensor, fake: Tensor, *, k: int = NEAREST, recall: bool = True, rows: int = ROWS
) -> Neighbourhoods:
    """Find which pictures of each set lie in the balls around the pictures of the other set.

    The ball around a picture reaches to its k-th nearest neighbour in its own set. real (N, width), fake (M, width):
    features on one device; their dtype is the precision of the computation. `rows` rows of distances are computed at
    a time. recall: False does not compute the balls of the fakes, which saves a third of the time.

    Raises DataError for k or fewer pictures on a side.
    """
    for name, features in (("real", real), ("generated", fake)):
        needed = k + 1 if name == "real" or recall else 1
        if len(features) < needed:
            raise DataError(
                f"{len(features)} {name} pictures are too few for the {k} nearest neighbours: "
                f"give at least {needed}"
            )
    # Subtracting the mean does not change distances, and makes |x|^2 + |y|^2 - 2 x.y more exact.
    centre = real.mean(0)
    reals, fakes = _Factors(real - centre), _Factors(fake - centre)
    real_radii = squared_radii(reals, k, rows)
    fake_radii = squared_radii(fakes, k, rows) if recall else None
    counts = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for i in range(0, len(real), rows):
        distances = reals.squared_distances(slice(i, i + rows), fakes)
        radii = real_radii[i : i + rows]
        covered[i : i + rows] = distances.amin(1) < radii
        if fake_radii is not None:
            recalled[i : i + rows] = (distances < fake_radii).any(1)
        # The sum is exact, because it is a whole number of at most `rows`.
        counts += (distances < radii[:, None]).to(real.dtype).sum(0).long()
    return Neighbourhoods(
        density=counts.double() / k,
        coverage=covered.double(),
        precision=(counts > 0).double(),
        recall=recalled.double() if recall else None,
    )


class _Factors:
    """Features (N, width), prepared as left and as right factor of a matrix product that gives squared distances.

    (-2 x, |x|^2, 1) . (y, 1, |y|^2) = |x - y|^2. So the large matrix of distances is written to memory only once.
    """

    def __init__(self, features: Tensor) -> None:
        norms = features.square().sum(1, keepdim=True)
        ones = torch.ones_like(norms)
        self.left = torch.cat([-2 * features, norms, ones], dim=1)
        self.right = torch.cat([features, ones, norms], dim=1)

    def __len__(self) -> int:
        return len(self.left)

    def squared_distances(self, rows: slice, others: "_Factors", first: int = 0) -> Tensor:
        """Squared distances between these rows and the pictures of `others`, from number `first` on."""
        return torch.mm(self.left[rows], others.right[first:].T).clamp_min_(0)


def squared_radii(features: _Factors, k: int, rows: int) -> Tensor:
    """The squared distance of each picture from its k-th nearest other one: (N,).

    Every block of distances is used for its rows and, transposed, for its columns, so each pair is computed once.
    """
    number = len(features)
    # k + 1, because each picture is the nearest one to itself.
    nearest = features.left.new_full((number, k + 1), torch.inf)
    for i in range(0, number, rows):
        distances = features.squared_distances(slice(i, i + rows), features, first=i)
        _merge(nearest, slice(i, i + len(distances)), distances, k)
        if i + rows < number:
            _merge(nearest, slice(i + rows, number), distances[:, rows:].T, k)
    return nearest.amax(1)


def _merge(nearest: Tensor, where: slice, distances: Tensor, k: int) -> None:
    """Put the smallest distances of these rows into `nearest`, in place.

    nearest: (N, k + 1), the smallest ones so far, in no order. where: the rows. distances: (rows, others), new ones.
    """
    number = min(k + 1, distances.shape[1])
    smallest = distances.topk(number, dim=1, largest=False, sorted=False).values
    candidates = torch.cat([nearest[where], smallest], dim=1)
    nearest[where] = candidates.topk(k + 1, dim=1, largest=False, sorted=False).values
