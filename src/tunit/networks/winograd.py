"""3 x 3 convolutions on a processor with a quarter of the multiplications: Winograd's algorithm, for training too.

A processor convolves at nearly its peak already, so that only fewer operations help. In F(4 x 4, 3 x 3) [1] the 4 x 4
outputs of a tile come from 36 products instead of 144:

    Y = A^T ((G w G^T) * (B^T x B)) A,

x the 6 x 6 pixels under the tile, w a kernel, * the product of each position, summed over the input channels: 36
products of matrices, which PyTorch computes. The transforms on both sides are winograd.c; where that is
not compiled, PyTorch convolves. Rounding errors are about 1e-5 of the largest output.

The convolution is linear in the picture and in the kernel, so that its gradients are made of the same pieces, and
so are theirs (R1 needs them).

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016.
"""

import math
import threading
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from tunit.native import LANES, apply, call, channels_last, takes
from tunit.networks.gradients import inputs_only

Edge = Literal["zeros", "replicate", "reflect"]
_EDGES: tuple[Edge, ...] = ("zeros", "replicate", "reflect")  # as in winograd.c

FEWEST_CHANNELS = 32  # on both sides; below, the transforms cost more than they save
FEWEST_TILES = 8  # in a batch; below, the kernels' transforms cost more than they save
# What is held at once stays in the processor's cache.
NUMBERS_AT_ONCE = 1 << 20  # in the tiles of some pictures
KERNEL_NUMBERS_AT_ONCE = 1 << 20  # in the tiles of some kernels

_memory = threading.local()


def is_worth_it(x: Tensor, weight: Tensor) -> bool:
    """Whether `convolve` takes such a picture and such kernels, and is the faster for it."""
    (batch, channels, height, width), (kernels, _, *sides) = x.shape, weight.shape
    return (
        takes(x)
        and sides == [3, 3]
        and weight.dtype == torch.float32
        and min(channels, kernels) >= FEWEST_CHANNELS
        and kernels % LANES == height % 4 == width % 4 == 0
        and batch * height * width >= 16 * FEWEST_TILES
        and not torch.is_autocast_enabled("cpu")
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The 3 x 3 convolution of x (B, C, H, W) with stride 1 and one pixel of padding: (B, O, H, W), channels last.

    weight: (O, C, 3, 3); bias: (O,). edge: what lies outside x. As `is_worth_it` asks. Can be differentiated twice.
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
            dw = apply(_KernelGradient, x, dy, ctx.edge) if of_weight else None
        else:
            dx, dw = _gradients(x if of_weight else None, dy, weight if of_x else None, ctx.edge)
        return dx, dw, dy.sum((0, 2, 3)) if of_bias else None, None


class _PictureGradient(Function):
    """(dy, weight) to dx: the adjoint of the convolution, for given kernels."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, weight: Tensor, edge: Edge) -> Tensor:
        ctx.save_for_backward(dy, weight)
        ctx.edge = edge
        dx, _ = _gradients(None, dy, weight, edge)
        assert dx is not None
        return dx

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        dy, weight = ctx.saved_tensors
        of_dy, of_weight, _ = ctx.needs_input_grad
        return (
            apply(_Convolution, ddx, weight, None, ctx.edge) if of_dy else None,
            apply(_KernelGradient, ddx, dy, ctx.edge) if of_weight else None,
            None,
        )


class _KernelGradient(Function):
    """(x, dy) to dw: the adjoint of the convolution, for a given picture."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, edge: Edge) -> Tensor:
        ctx.save_for_backward(x, dy)
        ctx.edge = edge
        _, dw = _gradients(x, dy, None, edge)
        assert dw is not None
        return dw

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
        x, dy = ctx.saved_tensors
        of_x, of_dy, _ = ctx.needs_input_grad
        return (
            apply(_PictureGradient, dy, ddw, ctx.edge) if of_x else None,
            apply(_Convolution, x, ddw, None, ctx.edge) if of_dy else None,
            None,
        )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """`convolve` without its gradients."""
    x, w = channels_last(x), channels_last(weight)
    y = x.new_empty(*x.shape[:3], len(w))
    for part in _parts(x, x.shape[3]):
        tiles = _tiles_of(x[part], edge)
        call("convolve", tiles, w, bias, y[part], _work(), *x[part].shape, len(w))
    return y.permute(0, 3, 1, 2)


def _gradients(
    x: Tensor | None, dy: Tensor, weight: Tensor | None, edge: Edge
) -> tuple[Tensor | None, Tensor | None]:
    """dx where the kernels are given, and dw where the picture is."""
    dy = channels_last(dy)
    number = dy.shape[3]
    dx = dw = w = None
    if weight is not None:
        w = channels_last(weight)
        dx = dy.new_empty(*dy.shape[:3], w.shape[3])
    if x is not None:
        x = channels_last(x)
        dw = dy.new_empty(number, 3, 3, x.shape[3])
    for part in _parts(dy, max(number, 0 if x is None else x.shape[3])):
        d_products = _panels("products", dy[part])
        call("product_gradients", dy[part], d_products, *dy[part].shape)
        if x is not None and dw is not None:
            tiles, count = _tiles_of(x[part], edge), _count(dy[part])
            call("kernel_gradients", tiles, d_products, dw, _work(), int(part.start > 0), count, number, x.shape[3])
        if w is not None and dx is not None:
            sizes = *dx[part].shape, number, _EDGES.index(edge)
            call("picture_gradients", d_products, w, dx[part], _work(), *sizes)
    return tuple(None if d is None else d.permute(0, 3, 1, 2) for d in (dx, dw))  # type: ignore[return-value]


def _slices(number: int, size: int) -> list[slice]:
    return [slice(i, i + size) for i in range(0, number, size)]


def _parts(x: Tensor, channels: int) -> list[slice]:
    """The pictures x (B, H, W, any), as many at a time as the cache takes in tiles of so many channels."""
    in_tiles = 36 * x.shape[1] * x.shape[2] * channels // 16
    return _slices(len(x), max(1, NUMBERS_AT_ONCE // in_tiles))


def _held(name: str, *shape: int) -> Tensor:
    """A tensor without values, in memory that this thread keeps: the transforms cost less than fresh memory would."""
    number = math.prod(shape)
    kept: Tensor | None = getattr(_memory, name, None)
    if kept is None or len(kept) < number:
        with torch.inference_mode(False):
            kept = torch.empty(number)
        setattr(_memory, name, kept)
    return kept[:number].view(shape)


def _count(x: Tensor) -> int:
    """The tiles of pictures (b, H, W, any)."""
    return len(x) * x.shape[1] * x.shape[2] // 16


def _panels(name: str, x: Tensor) -> Tensor:
    """Memory of that name for tiles of pictures (b, H, W, C): (C / LANES, 36, tiles or one more, LANES)."""
    return _held(name, x.shape[3] // LANES, 36, _count(x) | 1, LANES)


def _tiles_of(x: Tensor, edge: Edge) -> Tensor:
    """(b, H, W, C) to tiles."""
    tiles = _panels("tiles", x)
    call("tiles_of", x, tiles, *x.shape, _EDGES.index(edge))
    return tiles


def _work() -> Tensor:
    """Memory for what the threads work on."""
    return _held("work", torch.get_num_threads(), 1 << 18)
