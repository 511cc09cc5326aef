"""Find pictures that are probably of one kind: nearest neighbours by E's style codes and by simple cues.

Two views of one picture teach E to recognise this picture, not its kind. As a result, photographs taken at one place
and time get similar style codes, whatever they show. SCAN [1] therefore replaces the second view by a nearest
neighbour. But good neighbours need good codes. Early in training E's codes are poor, and simple cues (colours,
outlines) are more reliable; tunit.clustering.measures chooses between them.

With several measures, two pictures are neighbours only if they are near by every measure. For this, each measure
gives an affinity of the two pictures, scaled by the distances around both of them [2], and the affinities are
multiplied.

References:
    [1] Van Gansbeke et al. SCAN: learning to classify images without labels, ECCV 2020.
    [2] Zelnik-Manor, Perona. Self-tuning spectral clustering, NIPS 2004 (the local scale).
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

# Into how many groups measures should separate pictures of which the number of kinds is not known: a measure that
# separates three kinds clearly does not separate ten groups.
NUMBERS = (3, 5, 10)
# How many pictures are compared with all others at a time; in a large set fewer, so that there are at most PAIRS
# pairs.
CHUNK, PAIRS = 512, 1 << 26
LEAST_SCALE = 1e-6  # no scale is 0, even where all neighbours are copies of the picture


def find_neighbours(measures: Sequence[Tensor], k: int) -> Tensor:
    """The k nearest neighbours of each picture by the product of all measures' affinities.

    measures: vectors (N, any width) of the same N > k pictures, on one device; their scales do not matter. Returns
    (N, k) int64, nearest first; a picture is never among its own neighbours.
    """
    return neighbours_and_distances(measures, k)[1]


def neighbours_and_distances(
    measures: Sequence[Tensor], k: int, nearest_for_scale: int | None = None
) -> tuple[Tensor, Tensor]:
    """As `find_neighbours`, with the scaled distances: (N, k), nearest first, and (N, k) int64.

    nearest_for_scale: from how many nearest pictures the local scale is computed; k of them if it is not given.
    """
    own = torch.arange(len(measures[0]), device=measures[0].device)
    scales = [_local_scale(vectors, own, nearest_for_scale or k) for vectors in measures]

    def distance(rows: slice) -> Tensor:
        """(b, N): minus the logarithm of the product of the affinities, which is the sum of scaled distances."""
        parts = (
            torch.cdist(vectors[rows], vectors).square_().div_(scale[rows, None] * scale)
            for vectors, scale in zip(measures, scales, strict=True)
        )
        return reduce(Tensor.add_, parts)

    _, found = nearest(distance, own, k)
    exact = [
        distances_to(vectors, found).square_().div_(scale[:, None] * scale[found])
        for vectors, scale in zip(measures, scales, strict=True)
    ]
    squares, order = reduce(Tensor.add_, exact).sort(dim=1, stable=True)
    return squares.sqrt(), found.gather(1, order)


def nearest(distance: Callable[[slice], Tensor], own: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """For each of N pictures the k nearest of M others: distances (N, k), and indices (N, k) int64.

    distance: computes the distances of a slice of the N pictures from all M, (b, M). own: (N,), the index of each
    picture among the M, or -1; a picture is never among its own nearest ones.
    """
    values, indices = [], []
    size = max(1, min(CHUNK, PAIRS // max(1, len(own))))
    for start in range(0, len(own), size):
        rows = slice(start, start + size)
        apart, itself = distance(rows), own[rows]
        inside = torch.nonzero(itself >= 0).squeeze(1)
        apart[inside, itself[inside]] = torch.inf
        found = apart.topk(k, dim=1, largest=False)
        values.append(found.values)
        indices.append(found.indices)
    return torch.cat(values), torch.cat(indices)


def distances_to(vectors: Tensor, found: Tensor) -> Tensor:
    """The distances of N pictures from those `found` for each, (N, k) int64: vectors (N, width) to (N, k).

    cdist computes distances from products, so between near-copies it has only rounding errors; here they are right.
    """
    chunks = [slice(start, start + CHUNK) for start in range(0, len(found), CHUNK)]
    return torch.cat([(vectors[rows, None] - vectors[found[rows]]).norm(dim=-1) for rows in chunks])


def _local_scale(vectors: Tensor, own: Tensor, k: int) -> Tensor:
    """The mean distance of each picture from its k nearest [2]: vectors (N, width) to (N,)."""
    _, found = nearest(lambda rows: torch.cdist(vectors[rows], vectors), own, k)
    return distances_to(vectors, found).mean(1).clamp_min(LEAST_SCALE)
