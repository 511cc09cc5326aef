"""Instance normalisation, and AdaIN: the same with a scale and a shift that a style code gives.

On a processor instance_norm.c reads and writes pictures with the channels last, as convolutions do, where PyTorch
would copy them.

References:
    [1] Huang, Belongie. Arbitrary style transfer in real-time with adaptive instance normalization, ICCV 2017.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from tunit.native import apply, call, channels_last, sizes, takes
from tunit.networks.gradients import differentiable_gradients

EPS = 1e-5


def instance_norm(x: Tensor, *, relu: bool = False) -> Tensor:
    """Each picture's channel to mean 0 and variance 1, without affine parameters. x: (B, C, H, W).

    relu: with ReLU after it, in the same pass over memory where that is compiled.
    """
    if takes(x):
        y: Tensor = apply(_AdaptiveNorm, x, x.new_zeros(x.shape[:2]), x.new_ones(x.shape[:2]), relu)
        return y
    y = F.instance_norm(x, eps=EPS)
    return F.relu(y) if relu else y


def adaptive_instance_norm(x: Tensor, shift: Tensor, scale: Tensor, *, relu: bool = False) -> Tensor:
    """AdaIN [1]: scale * IN(x) + shift; the scale is used as it is, not 1 + scale.

    x: (B, C, H, W); shift, scale: (B, C). relu: as for `instance_norm`.
    """
    if takes(x) and shift.dtype == scale.dtype == x.dtype:
        y: Tensor = apply(_AdaptiveNorm, x, shift, scale, relu)
        return y
    return _adaptive_norm(x, shift, scale, relu)


def _adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor, relu: bool) -> Tensor:
    """`adaptive_instance_norm` by PyTorch."""
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
    y = y.view_as(x)
    return F.relu(y) if relu else y


class _AdaptiveNorm(Function):
    """(x, shift, scale) to y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, relu: bool) -> Tensor:
        last, mean, inverse = channels_last(x), x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])
        y = torch.empty_like(last)
        affine = scale.contiguous(), shift.contiguous(), relu
        call("instance_norm", last, y, mean, inverse, *affine, *sizes(last), EPS)
        ctx.save_for_backward(x, shift, scale, mean, inverse)
        ctx.relu = relu
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, shift, scale, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_adaptive_norm, relu=ctx.relu)
            return *differentiable_gradients(plain, (x, shift, scale), ctx.needs_input_grad[:3], dy), None
        x, dy = channels_last(x), channels_last(dy)
        dx, of_scale, of_shift = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)
        call(
            "instance_norm_backward",
            *(x, dy, mean, inverse, scale.contiguous(), shift.contiguous(), ctx.relu),
            *(dx, of_scale, of_shift),
            *sizes(x),
        )
        return dx.permute(0, 3, 1, 2), of_shift, of_scale, None
