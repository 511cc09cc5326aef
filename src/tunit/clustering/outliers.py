"""How far off-topic each picture is: alone among pictures that are not, by style codes.

References:
    [1] Breunig, Kriegel, Ng, Sander. LOF: identifying density-based local outliers, SIGMOD 2000 (the comparison with
    the neighbours' own distances). [2] Iglewicz, Hoaglin. How to detect and handle outliers, 1993 (median and MAD).
"""

import numpy as np
import torch
from numpy.typing import NDArray

Scores = NDArray[np.float64]

NEIGHBOURS = 10
MOST_COMPARED = 5_000  # pictures that all are compared with; of more, evenly spread ones
CHUNK = 512
DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
CERTAIN = 8.0  # robust deviations above the median that have a score of 1
LEAST = 1e-9


def outlier_scores(styles: NDArray[np.floating]) -> Scores:
    """A score from 0 to 1 for each of N style codes (N, width): half of all have 0, from 0.5 on one is off-topic.

    Each code's mean distance from its nearest ones, over the same of these [1]; of its logarithm, how many robust
    deviations it lies above the median [2]. Of fewer than 12 pictures nothing is said: all have 0.
    """
    codes = torch.from_numpy(np.asarray(styles, np.float32))
    number = len(codes)
    if number < NEIGHBOURS + 2:
        return np.zeros(number)
    rows = np.unique(np.linspace(0, number - 1, min(number, MOST_COMPARED)).astype(np.int64))
    own = np.full(number, -1)
    own[rows] = np.arange(len(rows))
    distances, nearest = _nearest(codes, codes[torch.from_numpy(rows)], torch.from_numpy(own))
    around = distances[rows][nearest].mean(1)
    logs = np.log(np.maximum(distances, LEAST) / np.maximum(around, LEAST))
    above = logs - np.median(logs)
    spread = DEVIATION * float(np.median(np.abs(above)))
    scores: Scores = np.clip(above / max(CERTAIN * spread, LEAST), 0, 1)
    return scores


def _nearest(
    codes: torch.Tensor, compared: torch.Tensor, own: torch.Tensor
) -> tuple[Scores, NDArray[np.int64]]:
    """The mean distance (N,) of each code from its nearest among `compared`, and which these are, (N, NEIGHBOURS).

    own: (N,), which of `compared` a code itself is; -1 for none.
    """
    means, indices = [], []
    for i in range(0, len(codes), CHUNK):
        apart = torch.cdist(codes[i : i + CHUNK], compared)
        here = own[i : i + CHUNK]
        there = here >= 0
        apart[there, here[there]] = torch.inf
        found = apart.topk(NEIGHBOURS, dim=1, largest=False)
        means.append(found.values.mean(1).double().numpy())
        indices.append(found.indices.numpy())
    return np.concatenate(means), np.concatenate(indices)
