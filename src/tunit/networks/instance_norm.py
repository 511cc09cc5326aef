"""Instance normalisation, and AdaIN: the same with a scale and a shift from a style code.

References:
    [1] Huang, Belongie. Arbitrary style transfer in real-time with adaptive instance normalization, ICCV 2017.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5


def instance_norm(x: Tensor) -> Tensor:
    """Scale each channel of each picture to mean 0 and variance 1. x: (B, C, H, W)."""
    return _normalised(x, None, None)


def adaptive_instance_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaIN [1]: scale * IN(x) + shift. (Not (1 + scale) * IN(x) + shift, as in some implementations.)

    x: (B, C, H, W); shift, scale: (B, C).
    """
    return _normalised(x, scale.reshape(-1), shift.reshape(-1))


def _normalised(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """One fused batch norm over B * C channels: instance norm and its affine part in a single pass.

    The pixels are put on one axis to avoid a bug of PyTorch: for a single picture (1, C, H, W) with the channels
    last, the gradient of its batch norm and instance norm is wrong if x and the gradient of y have different memory
    layouts.
    """
    rows = x.reshape(1, x.shape[0] * x.shape[1], -1)
    y = F.batch_norm(rows, None, None, scale, shift, training=True, eps=EPS).view(x.shape)
    # The next convolution is faster if its channels are last in memory, as those of x are.
    if torch.compiler.is_compiling() or not x.is_contiguous(memory_format=torch.channels_last):
        return y
    return y.contiguous(memory_format=torch.channels_last)
