"""Convolutions on a processor with a fraction of the multiplications: Winograd's algorithm, for training too.

A processor convolves at nearly its peak already, so that only fewer operations help. In F(4 x 4, 3 x 3) [1] the 4 x 4
outputs of a tile come from 36 products instead of 144:

    Y = A^T ((G w G^T) * (B^T x B)) A,

x the 6 x 6 pixels under the tile, w a kernel, * the product of each position, summed over the input channels: 36
products of matrices. It is written in C (native/winograd.c); where that is not compiled, PyTorch convolves. Rounding
errors are about 1e-5 of the largest output.

A convolution with 4 x 4 weights and stride 2 is one with 2 x 2 weights and stride 1, of four times the channels: the
pixels of even and of odd rows and columns. F(4 x 4, 2 x 2) takes 25 products for it instead of 64.

A picture of 2 x 2 pixels, with zeros around, needs no transform: of the nine pixels under a kernel four are there,
and only what they give is computed (native/two_by_two.c).

The convolution is linear in the picture and in the kernel, so that its gradients are made of the same pieces, and
so are theirs (R1 needs them).

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016.
"""

import threading
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from tunit.native import LANES, apply, ask, call, channels_last, takes
from tunit.networks.gradients import inputs_only

Edge = Literal["zeros", "replicate", "reflect"]
_EDGES: tuple[Edge, ...] = ("zeros", "replicate", "reflect")  # as in winograd_tiles.h
_STRIDES = {3: 1, 4: 2}  # of kernels with such sides

FEWEST_CHANNELS = 32  # on both sides; below, the transforms cost more than they save
FEWEST_TILES = 8  # in a batch; below, the kernels' transforms cost more than they save

_memory = threading.local()


def is_worth_it(x: Tensor, weight: Tensor, edge: Edge) -> bool:
    """Whether `convolve` takes such a picture and such kernels, and is the faster for it."""
    (batch, channels, height, width), (kernels, _, *sides) = x.shape, weight.shape
    if sides[0] != sides[1] or sides[0] not in _STRIDES:
        return False
    stride = _STRIDES[sides[0]]
    tile = 4 * stride
    tiled = height % tile == width % tile == 0 and batch * height * width >= tile**2 * FEWEST_TILES
    if stride == 1:
        tiled |= height == width == 2 and edge == "zeros"
    elif edge == "replicate":  # a pixel beyond the edge would belong to two quarters of the picture
        return False
    return (
        takes(x)
        and weight.dtype == torch.float32
        and min(stride**2 * channels, kernels) >= FEWEST_CHANNELS
        and kernels % LANES == 0
        and tiled
        and not torch.is_autocast_enabled("cpu")
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The convolution of x (B, C, H, W) with one pixel of padding, channels last.

    weight: (O, C, 3, 3), for stride 1: (B, O, H, W); or (O, C, 4, 4), for stride 2: (B, O, H / 2, W / 2).
    bias: (O,). edge: what lies outside x. As `is_worth_it` asks. Can be differentiated twice.
    """
    y: Tensor = apply(_Convolution, x, weight, bias, edge)
    return y


class _Convolution(Function):
    """(x, weight, bias) to y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.edge = edge
        return _forward(x, weight, bias, edge)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            of_weight = of_weight and not inputs_only()
            dx = apply(_PictureGradient, dy, weight, ctx.edge) if of_x else None
            dw = apply(_KernelGradient, x, dy, weight.shape[-1], ctx.edge) if of_weight else None
            db = dy.sum((0, 2, 3)) if of_bias else None
        else:
            db = dy.new_empty(len(weight)) if of_bias else None
            dx, dw = _gradients(
                x if of_weight else None, dy, weight if of_x else None, weight.shape[-1], ctx.edge, db
            )
        return dx, dw, db, None


class _PictureGradient(Function):
    """(dy, weight) to dx: the adjoint of the convolution, for given kernels."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, weight: Tensor, edge: Edge) -> Tensor:
        ctx.save_for_backward(dy, weight)
        ctx.edge = edge
        dx, _ = _gradients(None, dy, weight, weight.shape[-1], edge)
        assert dx is not None
        return dx

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        dy, weight = ctx.saved_tensors
        of_dy, of_weight, _ = ctx.needs_input_grad
        return (
            apply(_Convolution, ddx, weight, None, ctx.edge) if of_dy else None,
            apply(_KernelGradient, ddx, dy, weight.shape[-1], ctx.edge) if of_weight else None,
            None,
        )


class _KernelGradient(Function):
    """(x, dy) to dw: the adjoint of the convolution, for a given picture."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, side: int, edge: Edge) -> Tensor:
        ctx.save_for_backward(x, dy)
        ctx.edge = edge
        _, dw = _gradients(x, dy, None, side, edge)
        assert dw is not None
        return dw

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
        x, dy = ctx.saved_tensors
        of_x, of_dy, *_ = ctx.needs_input_grad
        return (
            apply(_PictureGradient, dy, ddw, ctx.edge) if of_x else None,
            apply(_Convolution, x, ddw, None, ctx.edge) if of_dy else None,
            None,
            None,
        )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """`convolve` without its gradients."""
    x, w = channels_last(x), channels_last(weight)
    (batch, height, width, channels), (kernels, side, *_) = x.shape, w.shape
    stride = _STRIDES[side]
    y = x.new_empty(batch, height // stride, width // stride, kernels)
    which, sizes = _which(y, channels, side, edge)
    call(f"{which}_convolve", x, w, bias, y, _memory_for(which, sizes), *sizes)
    return y.permute(0, 3, 1, 2)


def _gradients(
    x: Tensor | None, dy: Tensor, weight: Tensor | None, side: int, edge: Edge, db: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """dx where the kernels are given, dw where the picture is; the gradient of biases is written into `db`.

    side: of the kernels, 3 or 4.
    """
    dy = channels_last(dy)
    x, w = (None if given is None else channels_last(given) for given in (x, weight))
    (batch, height, width, number), stride = dy.shape, _STRIDES[side]
    channels = x.shape[3] if x is not None else w.shape[3] if w is not None else LANES
    dx = None if w is None else dy.new_empty(batch, stride * height, stride * width, channels)
    dw = None if x is None else dy.new_empty(number, side, side, channels)
    which, sizes = _which(dy, channels, side, edge)
    call(f"{which}_backward", x, dy, w, dx, dw, db, _memory_for(which, sizes), *sizes)
    return tuple(None if d is None else d.permute(0, 3, 1, 2) for d in (dx, dw))  # type: ignore[return-value]


def _which(y: Tensor, channels: int, side: int, edge: Edge) -> tuple[str, tuple[int, ...]]:
    """Which of those in C gives y (B, H, W, O), and what it has to know of pictures and kernels."""
    batch, height, width, kernels = y.shape
    if height == 2:
        return "two_by_two", (batch, channels, kernels)
    which = "winograd" if side == 3 else "winograd_halving"
    return which, (batch, height, width, channels, kernels, _EDGES.index(edge))


def _memory_for(which: str, sizes: tuple[int, ...]) -> Tensor:
    """What compiled code needs, of memory that this thread keeps: fresh memory costs more than the transforms."""
    number = ask(f"{which}_memory", *sizes)
    kept: Tensor | None = getattr(_memory, "kept", None)
    if kept is None or len(kept) < number:
        with torch.inference_mode(False):
            _memory.kept = kept = torch.empty(number)
    return kept
