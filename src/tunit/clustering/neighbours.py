"""Which pictures probably are of one kind: nearest neighbours by E's style codes and by what the eye sees first.

Two views of one picture teach E what a picture is, not what a kind is: codes then gather the photographs of one shelf
and one minute. A neighbour in the place of the second view is SCAN's remedy [1], which needs good codes first. Early in
a training E's codes are poor, and simple cues (colours, shapes) are better: on photographs of fruit nine of ten of the
five nearest by colours are of the same kind when E's codes find seven. Which cue tells kinds apart depends on the set,
and E knows: of several, the one is taken whose neighbours E's codes, which learnt from pixels alone, also set near each
other. Affinities of codes and cue are multiplied, each scaled by the distances around both pictures [2].

References:
    [1] Van Gansbeke et al. SCAN: learning to classify images without labels, ECCV 2020.
    [2] Zelnik-Manor, Perona. Self-tuning spectral clustering, NIPS 2004 (the local scale).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # pictures compared with all others at a time
JUDGED = 5  # neighbours of each picture by which cues are compared


@dataclass(frozen=True)
class Neighbours:
    """What `find_neighbours` found."""

    table: Tensor  # (N, k) int64: of each picture its neighbours, nearest first, never itself
    agreement: dict[str, float]  # of each cue: see `agreement`
    cue: str  # the one taken


def find_neighbours(codes: Tensor, cues: Mapping[str, Tensor], k: int) -> Neighbours:
    """The k nearest neighbours of each picture by codes and the cue that agrees best with them.

    codes: (N, width), any scale for all, N > k; cues: (N, any width) by name, at least one, on the same device.
    """
    agreed = {name: agreement(codes, cue) for name, cue in cues.items()}
    best = max(agreed, key=lambda name: agreed[name])
    measures = [_Scaled(codes, k), _Scaled(cues[best], k)]
    parts = []
    for rows in _chunks(len(codes)):
        distance = sum(measure.distances(rows) for measure in measures)
        assert isinstance(distance, Tensor)
        parts.append(_without_self(distance, rows).topk(k, dim=1, largest=False).indices)
    return Neighbours(torch.cat(parts), agreed, best)


def agreement(codes: Tensor, cue: Tensor) -> float:
    """How near E's codes set a cue's nearest neighbours: their mean rank, 1 for the nearest of all, 0.5 for chance."""
    near, number = min(JUDGED, len(codes) - 1), len(codes)
    total = 0.0
    for rows in _chunks(number):
        found = _without_self(torch.cdist(cue[rows], cue), rows).topk(near, dim=1, largest=False).indices
        distance = _without_self(torch.cdist(codes[rows], codes), rows)
        of_found = distance.gather(1, found)  # (b, near)
        # The share of the others that are farther than the neighbour; of equal ones half.
        ordered = distance.sort(dim=1).values
        nearer = torch.searchsorted(ordered, of_found) + torch.searchsorted(ordered, of_found, right=True)
        total += float((1 - (nearer - 1) / (2 * (number - 1))).sum())
    return total / (number * near)


class _Scaled:
    """Squared distances over the product of both pictures' local scales [2]."""

    def __init__(self, vectors: Tensor, k: int) -> None:
        self.vectors = vectors
        scales = [
            _without_self(torch.cdist(vectors[rows], vectors), rows).topk(k, dim=1, largest=False).values.mean(1)
            for rows in _chunks(len(vectors))
        ]
        self.scale = torch.cat(scales).clamp_min(1e-6)  # copies of one picture have no distance at all

    def distances(self, rows: slice) -> Tensor:
        """(b, N), of the pictures `rows` to all."""
        squared = torch.cdist(self.vectors[rows], self.vectors).square()
        return squared / (self.scale[rows, None] * self.scale)


def _chunks(number: int) -> list[slice]:
    return [slice(i, min(i + CHUNK, number)) for i in range(0, number, CHUNK)]


def _without_self(distance: Tensor, rows: slice) -> Tensor:
    """Distances (b, N) of the pictures `rows`, each infinitely far from itself; changes and returns them."""
    own = torch.arange(rows.start, rows.stop, device=distance.device)
    distance[own - rows.start, own] = torch.inf
    return distance
