"""Trivial answers to "which pictures belong together?": k-means on pixels, on colours, on random features.

A training that sorts pictures no better than these was not worth its time. Each function takes pictures
(N, S, S, 3) of bytes and gives a group from 0 to k - 1 for each: (N,) int64, the same for the same seed. Where there
are fewer than k different pictures, there are fewer groups.

References:
    [1] Lloyd. Least squares quantization in PCM, 1982 (k-means). [2] Arthur, Vassilvitskii. k-means++, 2007.
    [3] Smith. Color gamut transform pairs, SIGGRAPH 1978 (HSV). [4] Arandjelovic, Zisserman. Three things everyone
    should know to improve object retrieval, CVPR 2012 (square roots of histograms: Hellinger's distance).
"""

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from tunit.evaluation.feature_networks import RandomVGG16, imagenet_normalised

Integers = NDArray[np.int64]
Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
SIDE = 32  # px that pictures are brought to before their pixels are compared
HSV_BINS = (12, 4, 4)
MOST_COLOURS = (
    128  # pixels of a picture's side that go into its histogram: of larger ones, every second or third
)
RESTARTS = 4  # of k-means, of which the best by its own measure is kept
MOST_FITTED = 10_000  # pictures that the centres are found on; the others go to the nearest
CHUNK = 64  # pictures at a time


def pixels(images: Pictures, k: int, seed: int) -> Integers:
    """k-means on the pixels at 32 px, RGB."""
    return _grouped(images, _pixel_vectors, k, seed)


def hsv_histograms(images: Pictures, k: int, seed: int) -> Integers:
    """k-means on the square roots [4] of the shares of 12 x 4 x 4 colours (hue, saturation, value) [3]."""
    return _grouped(images, lambda part: np.sqrt(hsv_shares(part)), k, seed)


def random_vgg(images: Pictures, k: int, seed: int) -> Integers:
    """k-means on the 512 features of a VGG-16's convolutions at 32 px; its random weights are always the same."""
    return _grouped(images, _vgg_vectors, k, seed)


ANSWERS: dict[str, Callable[[Pictures, int, int], Integers]] = {
    "pixels": pixels,
    "colours": hsv_histograms,
    "random features": random_vgg,
}


def k_means(vectors: Vectors, k: int, seed: int) -> KMeans:
    """The best of a few starts [1, 2] on vectors (N, width), N from 1."""
    found = KMeans(n_clusters=min(k, len(vectors)), n_init=RESTARTS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than k different pictures: fewer groups
        return found.fit(vectors)


def hsv_shares(images: Pictures) -> Vectors:
    """The share of every colour bin in each picture: (N, 192), rows of sum 1.

    Hue is cut into 12 equal parts from red on, saturation and value into 4 each; grey has the hue of red.
    """
    step = -(-max(images.shape[1:3]) // MOST_COLOURS)
    bins = hsv_bins(images[:, ::step, ::step])
    number = int(np.prod(HSV_BINS))
    rows = np.arange(len(bins))[:, None] * number
    counts = np.bincount((rows + bins.reshape(len(bins), -1)).ravel(), minlength=len(bins) * number)
    shares: Vectors = (counts.reshape(len(bins), number) / bins[0].size).astype(np.float32)
    return shares


def hsv_bins(rgb: Pictures) -> Integers:
    """The colour bin of every pixel [3]: (..., 3) bytes to (...) numbers from 0 to 191.

    In whole numbers throughout, so that no pixel falls to the wrong side of an edge by rounding.
    """
    red, green, blue = (rgb[..., i].astype(np.int64) for i in range(3))
    value = rgb.max(-1).astype(np.int64)
    chroma = value - rgb.min(-1)
    # Hue times chroma, in sixths of the circle: from 0 below 6 * chroma.
    sixth = np.where(
        value == red,
        (green - blue) + np.where(green < blue, 6 * chroma, 0),
        np.where(value == green, (blue - red) + 2 * chroma, (red - green) + 4 * chroma),
    )
    hues, saturations, values = HSV_BINS
    hue = hues * sixth // np.maximum(6 * chroma, 1)
    saturation = np.minimum(saturations * chroma // np.maximum(value, 1), saturations - 1)
    brightness = np.minimum(values * value // 255, values - 1)
    bins: Integers = (hue * saturations + saturation) * values + brightness
    return bins


def _small(images: Pictures) -> Tensor:
    """(N, 3, 32, 32) in [0, 1]: every pixel the mean of those it covers."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return x if x.shape[2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="area")


def _pixel_vectors(images: Pictures) -> Vectors:
    return _small(images).flatten(1).numpy()


@cache
def _vgg() -> nn.Module:
    return RandomVGG16().trunk.eval()


@torch.inference_mode()
def _vgg_vectors(images: Pictures) -> Vectors:
    features: Tensor = _vgg()(imagenet_normalised(_small(images)))
    return features.flatten(1).numpy()


def _grouped(images: Pictures, vectors_of: Callable[[Pictures], Vectors], k: int, seed: int) -> Integers:
    """The group of every picture by k-means on its vector, in bounded memory."""
    if k < 1:
        raise ValueError(f"{k} groups: take at least 1")
    if not len(images):
        return np.zeros(0, np.int64)
    step = -(-len(images) // MOST_FITTED)
    fitted = images[::step]
    vectors = np.concatenate([vectors_of(fitted[i : i + CHUNK]) for i in range(0, len(fitted), CHUNK)])
    model = k_means(vectors, k, seed)
    if step == 1:
        groups: Integers = model.labels_.astype(np.int64)
        return groups
    parts = [model.predict(vectors_of(images[i : i + CHUNK])) for i in range(0, len(images), CHUNK)]
    return np.concatenate(parts).astype(np.int64)
