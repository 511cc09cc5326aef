"""Instance normalisation, and AdaIN: the same with a scale and a shift from a style code.

References:
    [1] Huang, Belongie. Arbitrary style transfer in real-time with adaptive instance normalization, ICCV 2017.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each picture to mean 0 and variance 1, without affine parameters. x: (B, C, H, W)."""
    return _in_layout_of(x, F.instance_norm(x, eps=EPS))


def adaptive_instance_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaIN [1]: scale * IN(x) + shift; the scale is used as it is, not 1 + scale.

    x: (B, C, H, W); shift, scale: (B, C).
    """
    batch, channels = x.shape[:2]
    # One fused batch norm over B * C channels: instance norm and its affine part in a single pass.
    y = F.batch_norm(
        x.reshape(1, batch * channels, *x.shape[2:]),
        None,
        None,
        scale.reshape(-1),
        shift.reshape(-1),
        training=True,
        eps=EPS,
    )
    return _in_layout_of(x, y.view(x.shape))


def _in_layout_of(x: Tensor, y: Tensor) -> Tensor:
    """y with the channels last in memory if x has them last, because the next convolution is faster then."""
    if torch.compiler.is_compiling() or not x.is_contiguous(memory_format=torch.channels_last):
        return y
    return y.contiguous(memory_format=torch.channels_last)
