"""What the eye sees first: descriptors of pictures that need no training.

They serve as trivial answers to measure a training against, and as cues by which first neighbours are found.

References:
    [1] Smith. Color gamut transform pairs, SIGGRAPH 1978 (HSV). [2] Arandjelovic, Zisserman. Three things everyone
    should know to improve object retrieval, CVPR 2012 (square roots of histograms: Hellinger's distance).
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]
Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]
SIDE = 32  # px that pictures are brought to before their pixels are compared
HSV_BINS = (12, 4, 4)
MOST_COLOURS = (
    128  # pixels of a picture's side that go into its histogram: of larger ones, every second or third
)
LEAST_CONTRAST = (
    0.02  # standard deviation, of a range of 1, that is added to a picture's before it is divided by
)
CHUNK = 64  # pictures at a time


def colours(images: Pictures) -> Vectors:
    """Square roots [2] of the shares of 12 x 4 x 4 colours (hue, saturation, value) [1]: (N, 192)."""
    return np.sqrt(hsv_shares(images))


def pixels(images: Pictures) -> Vectors:
    """The pixels at 32 px, RGB in [0, 1]: (N, 3072)."""
    return small(images).flatten(1).numpy()


def shapes(images: Pictures) -> Vectors:
    """The pixels at 32 px, every picture brought to mean 0 and spread 1, so that exposure is nothing: (N, 3072)."""
    x = small(images)
    std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    standard: Vectors = ((x - mean) / (std + LEAST_CONTRAST)).flatten(1).numpy()
    return standard


def in_chunks(images: Pictures) -> dict[str, Tensor]:
    """Every cue of all pictures (N, S, S, 3), in bounded memory: by name, (N, width) float32."""
    parts = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    return {
        cue.__name__: torch.from_numpy(np.concatenate([cue(part) for part in parts]))
        for cue in (colours, shapes)
    }


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


def small(images: Pictures) -> Tensor:
    """Pictures at 32 px: (N, 3, 32, 32) in [0, 1]: every pixel the mean of those it covers."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return x if x.shape[2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="area")
