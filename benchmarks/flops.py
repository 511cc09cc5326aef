"""Floating-point operations of convolutions and matrix products, forward and backward, as they are carried out."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

import tunit.networks.winograd  # noqa: F401  for its operators


def of_winograd(output: tuple[int, ...], channels: int, side: int) -> int:
    """Those of the products of matrices in a convolution with `output` (B, O, H, W), or in one of its gradients."""
    batch, kernels, height, width = output
    of_a_tile = 36 * channels * kernels if side == 3 else 25 * 4 * channels * kernels
    return 2 * (batch * height * width // 16) * of_a_tile


@register_flop_formula(torch.ops.tunit.convolve)
def _(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return of_winograd(out_shape, x[1], weight[2])


@register_flop_formula(torch.ops.tunit.convolution_gradients)
def _(x: Any, dy: Any, weight: Any, edge: str, of_x: bool, of_weight: bool, *_: Any, **__: Any) -> int:
    return (of_x + of_weight) * of_winograd(dy, x[1], weight[2])


@register_flop_formula(torch.ops.tunit.convolution_picture_gradient)
def _(dy: Any, weight: Any, *_: Any, **__: Any) -> int:
    return of_winograd(dy, weight[1], weight[2])


@register_flop_formula(torch.ops.tunit.convolution_kernel_gradient)
def _(x: Any, dy: Any, side: int, *_: Any, **__: Any) -> int:
    return of_winograd(dy, x[1], side)


class CountFlops(TorchDispatchMode):
    """`total` after the block: a product and a sum count as two. Of what is in C the products of matrices count.

    PyTorch's own counter follows modules too, which a gradient of a gradient confuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out
