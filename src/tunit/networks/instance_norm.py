"""Instance normalisation, and AdaIN: the same with a scale and a shift from a style code.

References:
    [1] Huang, Belongie. Arbitrary style transfer in real-time with adaptive instance normalization, ICCV 2017.
"""

import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each picture to mean 0 and variance 1, without affine parameters. x: (B, C, H, W)."""
    return F.instance_norm(x, eps=EPS)


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
    return y.view_as(x)
