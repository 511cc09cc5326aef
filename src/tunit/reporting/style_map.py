"""A map of pictures by their style codes: pictures of similar style are near each other."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor

from tunit.methods.inference import evenly_spread

MOST_LAID_OUT = 1_500  # t-SNE is computed for at most this many pictures, which takes some seconds
PLACED_BY = 5  # any other picture is placed by its 5 nearest pictures among these
STEPS = 500  # with 750, neighbours on the map are not closer in style (trustworthiness 0.932 and 0.933)
CHUNK = 1024  # pictures whose distances to those on the map are computed at once
ALIKE = 1e-6  # style codes of length 1 whose numbers differ by less are equal up to rounding
FEWEST = 5  # pictures for which t-SNE says something
Points = NDArray[np.float64]


def laid_out(styles: Tensor, seed: int) -> tuple[Points, NDArray[np.int64]]:
    """t-SNE of style codes (N, width): places (M, 2) in [0, 1] x [0, 1], and which M of the N they are.

    Fewer than five pictures, and pictures of one and the same style, are in a row.
    """
    rows = evenly_spread(len(styles), MOST_LAID_OUT)
    codes = torch.nn.functional.normalize(styles[rows], dim=1).numpy()
    # t-SNE divides its first places by their spread: of equal codes it makes NaN, which ends the process.
    if len(rows) < FEWEST or np.ptp(codes, axis=0).max() < ALIKE:
        points = np.stack([np.arange(len(rows)), np.zeros(len(rows))], axis=1).astype(np.float64)
    else:
        perplexity = min(30.0, (len(rows) - 1) / 3)
        init = "pca" if codes.shape[1] > 1 else "random"  # the first places are in two dimensions
        model = TSNE(perplexity=perplexity, init=init, random_state=seed, max_iter=STEPS)
        points = model.fit_transform(codes).astype(np.float64)
    low, high = points.min(0), points.max(0)
    return (points - low) / np.maximum(high - low, 1e-9), rows


def spread(styles: Tensor, points: Points, rows: NDArray[np.int64]) -> Points:
    """A place (N, 2) for every style code (N, width), if M of them, `rows`, already have the places `points` (M, 2).

    Any other picture is placed at the mean of the places of its nearest pictures on the map, weighted by how near
    they are.
    """
    if len(rows) == len(styles):
        return points
    codes = torch.nn.functional.normalize(styles, dim=1)
    landmarks, places = codes[rows], torch.from_numpy(points)
    parts = []
    for i in range(0, len(codes), CHUNK):
        nearest = torch.cdist(codes[i : i + CHUNK], landmarks).topk(PLACED_BY, dim=1, largest=False)
        # Relative to the farthest of them, so that the scale of the codes does not matter.
        weights = (-4 * nearest.values / nearest.values[:, -1:].clamp_min(1e-9)).double().softmax(1)
        parts.append((weights[:, :, None] * places[nearest.indices]).sum(1))
    found: Points = torch.cat(parts).numpy()
    found[rows] = points
    return found
