"""Which pictures probably are of one kind: nearest neighbours by E's style codes and by what the eye sees first.

Two views of one picture teach E what a picture is, not what a kind is: codes then gather the photographs of one
shelf and one minute. A neighbour in the place of the second view is SCAN's remedy [1], which needs good codes first.
Early in a training E's codes are poor, and simple cues (colours, outlines) tell more; which one is chosen in
tunit.clustering.measures. Where several measures are given, two pictures are near when they are near by all of them:
affinities are multiplied, each scaled by the distances around both pictures [2].

References:
    [1] Van Gansbeke et al. SCAN: learning to classify images without labels, ECCV 2020.
    [2] Zelnik-Manor, Perona. Self-tuning spectral clustering, NIPS 2004 (the local scale).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 512  # pictures compared with all others at a time
LEAST_SCALE = 1e-6  # copies of one picture have no distance at all


def find_neighbours(measures: Sequence[Tensor], k: int) -> Tensor:
    """The k nearest neighbours of each picture by the product of all measures' affinities.

    measures: vectors (N, any width) of the same N > k pictures, on one device; their scales do not matter. Returns
    (N, k) int64, nearest first, a picture never among its own.
    """
    scales = [local_scale(vectors, k) for vectors in measures]
    parts = []
    for rows in _chunks(len(measures[0])):
        # The affinity is exp(-distance); the product's logarithm is the sum.
        distance = torch.stack(
            [
                torch.cdist(vectors[rows], vectors).square() / (scale[rows, None] * scale)
                for vectors, scale in zip(measures, scales, strict=True)
            ]
        ).sum(0)
        parts.append(_without_self(distance, rows).topk(k, dim=1, largest=False).indices)
    return torch.cat(parts)


def local_scale(vectors: Tensor, k: int) -> Tensor:
    """The mean distance of each picture from its k nearest [2]: vectors (N, width) to (N,)."""
    parts = [
        _without_self(torch.cdist(vectors[rows], vectors), rows).topk(k, dim=1, largest=False).values.mean(1)
        for rows in _chunks(len(vectors))
    ]
    return torch.cat(parts).clamp_min(LEAST_SCALE)


def _chunks(number: int) -> list[slice]:
    return [slice(i, min(i + CHUNK, number)) for i in range(0, number, CHUNK)]


def _without_self(distance: Tensor, rows: slice) -> Tensor:
    """Distances (b, N) of the pictures `rows`, each made infinitely far from itself; changes and returns them."""
    own = torch.arange(rows.start, rows.stop, device=distance.device)
    distance[own - rows.start, own] = torch.inf
    return distance
