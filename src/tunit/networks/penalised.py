"""Convolutions on a GPU whose gradients are differentiated again, as R1 needs, with small kernels in every pass.

R1 is the squared gradient of D with respect to pictures, so its own gradient differentiates each convolution twice.
PyTorch then computes the gradient of the kernels by a convolution whose "kernel" is a whole picture; cuDNN has fast
algorithms only for small kernels. StyleGAN2-ADA [1] avoids this, too.

The convolution is linear in the picture and in the kernel. So its gradients, and the gradients of these gradients,
take only three operations: the convolution itself, and its gradients with respect to the picture and to the kernel.
On a CPU, networks/winograd.py does the same for the sizes that it supports.

References:
    [1] Karras et al. Training generative adversarial networks with limited data, NeurIPS 2020 (its code:
        torch_utils/ops/conv2d_gradfix.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tunit.networks.gradients import inputs_only

_by_pytorch = False


@contextmanager
def second_gradients_by_pytorch() -> Iterator[None]:
    """Inside the block, `convolve_padded` is PyTorch's convolution, with PyTorch's gradients: to compare with it."""
    global _by_pytorch
    before, _by_pytorch = _by_pytorch, True
    try:
        yield
    finally:
        _by_pytorch = before


def uses_own_gradients(x: Tensor) -> bool:
    """Whether the gradients of this file are used: x may need second gradients on a device where PyTorch's are slow.

    R1 runs without autocast. With autocast, inputs are cast in PyTorch's own convolution.
    """
    return (
        x.device.type != "cpu"
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not _by_pytorch
        and not autocasts(x.device)
    )


def autocasts(device: torch.device) -> bool:
    """Whether convolutions on `device` are now cast to another precision."""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def convolve_padded(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """The convolution of x (B, C, H, W) with stride 1 and zero padding: (B, O, H', W').

    weight: (O, C, k, k); bias: (O,). The result is F.conv2d's; only second gradients are computed in another way.
    """
    if not uses_own_gradients(x):
        return F.conv2d(x, weight, bias, padding=padding)
    y: Tensor = Convolution.apply(x, weight, bias, padding)  # type: ignore[no-untyped-call]
    return y


class PenalisedConv2d(nn.Conv2d):
    """A convolution of D with stride 1 and zero padding; D's gradient penalty differentiates it twice."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H, W)."""
        return convolve_padded(x, self.weight, self.bias, self.kernel_size[0] // 2)


class Convolution(Function):
    """The operation of `convolve_padded`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        """PyTorch's convolution."""
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias; together if they are not differentiated again."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        if not torch.is_grad_enabled():
            return *_gradients(x, weight, dy, ctx.padding, (of_x, of_weight, of_bias)), None
        of_weight, of_bias = (wanted and not inputs_only() for wanted in (of_weight, of_bias))
        return (
            PictureGradient.apply(dy, weight, ctx.padding) if of_x else None,  # type: ignore[no-untyped-call]
            KernelGradient.apply(x, dy, weight, ctx.padding) if of_weight else None,  # type: ignore[no-untyped-call]
            dy.sum((0, 2, 3)) if of_bias else None,
            None,
        )


class PictureGradient(Function):
    """dx (B, C, H, W), the gradient of a convolution with respect to its picture, from dy (B, O, H', W')."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, weight: Tensor, padding: int) -> Tensor:
        """A transposed convolution, which is this gradient."""
        ctx.save_for_backward(dy, weight)
        ctx.padding = padding
        return F.conv_transpose2d(dy, weight, padding=padding)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of dy and weight, from that of dx."""
        dy, weight = ctx.saved_tensors
        of_dy, of_weight, _ = ctx.needs_input_grad
        return (
            Convolution.apply(ddx, weight, None, ctx.padding) if of_dy else None,  # type: ignore[no-untyped-call]
            KernelGradient.apply(ddx, dy, weight, ctx.padding) if of_weight else None,  # type: ignore[no-untyped-call]
            None,
        )


class KernelGradient(Function):
    """dw (O, C, k, k), the gradient of a convolution with respect to its kernels, from x and dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, weight: Tensor, padding: int) -> Tensor:
        """weight: only its shape, type and memory layout count."""
        ctx.save_for_backward(x, dy)
        ctx.padding = padding
        dw = _gradients(x, weight, dy, padding, (False, True, False))[1]
        assert dw is not None
        return dw

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x and dy, from that of dw."""
        x, dy = ctx.saved_tensors
        of_x, of_dy, _, _ = ctx.needs_input_grad
        return (
            PictureGradient.apply(dy, ddw, ctx.padding) if of_x else None,  # type: ignore[no-untyped-call]
            Convolution.apply(x, ddw, None, ctx.padding) if of_dy else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )


def _gradients(
    x: Tensor, weight: Tensor, dy: Tensor, padding: int, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dx, dw and db, as far as they are wanted, in one call of PyTorch."""
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        dy, x, weight, [len(weight)], [1, 1], [padding, padding], [1, 1], False, [0, 0], 1, wanted
    )
    return found
