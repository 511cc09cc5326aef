"""Trivial baselines for the question which pictures belong together: k-means on pixels and simple descriptors.

If the domains of a training are not better than these, the training was not worth its time. Each baseline takes
pictures (N, S, S, 3) of bytes and returns the group of each, from 0 to k - 1: (N,) int64, determined by the seed. If
there are fewer than k different pictures, there are fewer groups.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from tunit.clustering import cues
from tunit.clustering.cues import Integers, Pictures, Vectors
from tunit.clustering.partition import k_means
from tunit.features.imagenet import imagenet_normalised
from tunit.features.random_vgg16 import RandomVGG16

MOST_FITTED = 10_000  # centres are found from at most this many pictures; all others go to the nearest centre


@cache
def _vgg() -> nn.Module:
    return RandomVGG16().trunk.eval()


@torch.inference_mode()
def _vgg_vectors(images: Pictures) -> Vectors:
    """The 512 features of a VGG-16's convolutions at 32 px; its random weights are always the same."""
    features: Tensor = _vgg()(imagenet_normalised(cues.small(images)))
    return features.flatten(1).numpy()


def _grouped(vectors_of: Callable[[Pictures], Vectors], images: Pictures, k: int, seed: int) -> Integers:
    """The group of every picture by k-means on its vector, in bounded memory."""
    if k < 1:
        raise ValueError(f"{k} groups: take at least 1")
    if not len(images):
        return np.zeros(0, np.int64)
    step = -(-len(images) // MOST_FITTED)
    fitted = images[::step]
    model = k_means(cues.by_chunks(vectors_of, fitted), k, seed)
    if step == 1:
        groups: Integers = model.labels_.astype(np.int64)
        return groups
    groups = cues.by_chunks(lambda part: model.predict(vectors_of(part)), images)
    return groups.astype(np.int64)


BASELINES: dict[str, Callable[[Pictures, int, int], Integers]] = {
    "pixels": partial(_grouped, cues.pixels),
    "colours": partial(_grouped, cues.colours),
    "shapes": partial(_grouped, cues.shapes),
    "outlines": partial(_grouped, cues.outlines),
    "textures": partial(_grouped, cues.textures),
    "random features": partial(_grouped, _vgg_vectors),
}
