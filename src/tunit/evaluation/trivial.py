"""Trivial baselines for the question which pictures belong together: k-means on pixels and simple descriptors.

If the domains of a training are not better than these, the training was not worth its time. Each baseline takes
pictures (N, S, S, 3) of bytes and returns the group of each, from 0 to k - 1: (N,) int64, determined by the seed. If
there are fewer than k different pictures, there are fewer groups.

References:
    [1] Smith. Color gamut transform pairs, SIGGRAPH 1978 (HSV).
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from tunit.clustering import cues
from tunit.clustering.cues import Integers, Pictures, Vectors
from tunit.clustering.partition import k_means
from tunit.data.finding.spread import stride
from tunit.features.imagenet import imagenet_normalised
from tunit.features.random_vgg16 import RandomVGG16

HSV_BINS = (12, 4, 4)
# For a colour histogram at most this many pixels along each side of a picture are counted. In a larger picture these
# are every second (third, ...) pixel.
MOST_PIXELS_PER_SIDE = 128
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
    step = stride(len(images), MOST_FITTED)
    fitted = images[::step]
    model = k_means(cues.by_chunks(vectors_of, fitted), k, seed)
    if step == 1:
        groups: Integers = model.labels_.astype(np.int64)
        return groups
    groups = cues.by_chunks(lambda part: model.predict(vectors_of(part)), images)
    return groups.astype(np.int64)


def hsv_colours(images: Pictures) -> Vectors:
    """Square roots of the shares of 12 x 4 x 4 colours (hue, saturation, value) [1]: (N, 192).

    The usual colour histogram. `tunit.clustering.cues.colours` is a finer one, without sharp borders between bins.
    """
    return np.sqrt(hsv_shares(images))


def hsv_shares(images: Pictures) -> Vectors:
    """The share of every colour bin in each picture: (N, 192), where each row sums to 1.

    Hue is cut into 12 equal parts from red on, saturation and value into 4 each; grey has the hue of red.
    """
    step = -(-max(images.shape[1:3]) // MOST_PIXELS_PER_SIDE)
    bins = hsv_bins(images[:, ::step, ::step])
    number = int(np.prod(HSV_BINS))
    rows = np.arange(len(bins))[:, None] * number
    counts = np.bincount((rows + bins.reshape(len(bins), -1)).ravel(), minlength=len(bins) * number)
    shares: Vectors = (counts.reshape(len(bins), number) / bins[0].size).astype(np.float32)
    return shares


def hsv_bins(rgb: Pictures) -> Integers:
    """The colour bin of every pixel [1]: (..., 3) bytes to (...) numbers from 0 to 191.

    Computed in whole numbers, so that rounding cannot put a pixel into the neighbouring bin.
    """
    red, green, blue = (rgb[..., i].astype(np.int64) for i in range(3))
    value = rgb.max(-1).astype(np.int64)
    chroma = value - rgb.min(-1)
    # Hue times chroma, in sixths of the circle: from 0 to below 6 * chroma.
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


BASELINES: dict[str, Callable[[Pictures, int, int], Integers]] = {
    "pixels": partial(_grouped, cues.pixels),
    "colours": partial(_grouped, cues.colours),
    "HSV colours": partial(_grouped, hsv_colours),
    "shapes": partial(_grouped, cues.shapes),
    "outlines": partial(_grouped, cues.outlines),
    "textures": partial(_grouped, cues.textures),
    "random features": partial(_grouped, _vgg_vectors),
}
