"""Instance normalisation, and AdaIN: the same with a scale and a shift that a style code gives.

On a CPU native/instance_norm.c reads and writes pictures with the channels last, as convolutions do, where PyTorch
would copy them; `reference` says what is computed.

References:
    [1] Huang, Belongie. Arbitrary style transfer in real-time with adaptive instance normalization, ICCV 2017.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.native import call, channels_last, pictures_of, supports
from tunit.networks.gradients import differentiable_gradients

EPS = 1e-5


def instance_norm(x: Tensor, *, relu: bool = False) -> Tensor:
    """Each picture's channel to mean 0 and variance 1, without affine parameters. x: (B, C, H, W).

    relu: with ReLU after it, in the same pass over memory where that is compiled.
    """
    if supports(x):
        y: Tensor = adaptive_norm(x, x.new_zeros(x.shape[:2]), x.new_ones(x.shape[:2]), relu)[0]
        return y
    y = F.instance_norm(x, eps=EPS)
    return F.relu(y) if relu else y


def adaptive_instance_norm(x: Tensor, shift: Tensor, scale: Tensor, *, relu: bool = False) -> Tensor:
    """AdaIN [1]: scale * IN(x) + shift; the scale is used as it is, not 1 + scale.

    x: (B, C, H, W); shift, scale: (B, C). relu: as for `instance_norm`.
    """
    if supports(x) and shift.dtype == scale.dtype == x.dtype:
        y: Tensor = adaptive_norm(x, shift, scale, relu)[0]
        return y
    return reference(x, shift, scale, relu)


def reference(x: Tensor, shift: Tensor, scale: Tensor, relu: bool) -> Tensor:
    """What `adaptive_norm` computes, by PyTorch."""
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


@torch.library.custom_op("tunit::adaptive_norm", mutates_args=(), device_types="cpu")
def adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """`adaptive_instance_norm` of x (B, C, H, W), channels last; and x's mean and inverse deviation, (B, C)."""
    last, (batch, channels) = channels_last(x), x.shape[:2]
    y, mean, inverse = torch.empty_like(last), x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])
    each = batch, channels
    call(
        "instance_norm",
        (last, tuple(y.shape)),
        (y, tuple(y.shape)),
        *((value.contiguous(), each) for value in (mean, inverse, scale, shift)),
        int(relu),
        *pictures_of(x),
        EPS,
    )
    return y.permute(0, 3, 1, 2), mean, inverse


@torch.library.custom_op("tunit::adaptive_norm_gradients", mutates_args=(), device_types="cpu")
def adaptive_norm_gradients(
    x: Tensor, dy: Tensor, mean: Tensor, inverse: Tensor, shift: Tensor, scale: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, shift and scale along dy; they cannot be differentiated."""
    last, each = channels_last(x), tuple(x.shape[:2])
    dx, of_scale, of_shift = torch.empty_like(last), torch.empty_like(mean), torch.empty_like(mean)
    call(
        "instance_norm_backward",
        *((value, tuple(last.shape)) for value in (last, channels_last(dy))),
        *((value.contiguous(), each) for value in (mean, inverse, scale, shift)),
        (dx, tuple(last.shape)),
        (of_scale, each),
        (of_shift, each),
        int(relu),
        *pictures_of(x),
    )
    return dx.permute(0, 3, 1, 2), of_shift, of_scale


@adaptive_norm.register_fake
def _(x: Tensor, shift: Tensor, scale: Tensor, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return y, x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])


@adaptive_norm_gradients.register_fake
def _(
    x: Tensor, dy: Tensor, mean: Tensor, inverse: Tensor, shift: Tensor, scale: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return dx, torch.empty_like(mean), torch.empty_like(mean)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, shift, scale, ctx.relu = inputs
    _, mean, inverse = output
    ctx.save_for_backward(x, shift, scale, mean, inverse)
    ctx.mark_non_differentiable(mean, inverse)


def _backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, shift, scale, mean, inverse = ctx.saved_tensors
    if torch.is_grad_enabled():
        plain = partial(reference, relu=ctx.relu)
        return *differentiable_gradients(plain, (x, shift, scale), ctx.needs_input_grad[:3], dy), None
    return *adaptive_norm_gradients(x, dy, mean, inverse, shift, scale, ctx.relu), None


adaptive_norm.register_autograd(_backward, setup_context=_keep)
