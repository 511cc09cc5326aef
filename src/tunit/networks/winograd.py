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
NUMBERS_AT_ONCE = 1 << 21  # in the tiles of some pictures
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
        for some in _blocks(*w.shape[::3]):
            products = _product(tiles, _kernel_tiles(w[some]).transpose(1, 2))
            _write_pictures(products, y[part, ..., some], None if bias is None else bias[some])
    return y.permute(0, 3, 1, 2)


def _gradients(
    x: Tensor | None, dy: Tensor, weight: Tensor | None, edge: Edge
) -> tuple[Tensor | None, Tensor | None]:
    """dx where the kernels are given, and dw where the picture is."""
    dy = channels_last(dy)
    kernels = dy.shape[3]
    w = None if weight is None else channels_last(weight)
    x = None if x is None else channels_last(x)
    dx = None if w is None else dy.new_empty(*dy.shape[:3], w.shape[3])
    dw = None if x is None else dy.new_empty(kernels, 3, 3, x.shape[3])
    given = w if x is None else x
    assert given is not None
    blocks = _blocks(kernels, given.shape[3])
    for part in _parts(dy, given.shape[3]):
        tiles = None if x is None else _tiles_of(x[part], edge)
        d_tiles: Tensor | None = None
        for some in blocks:
            d_products = _read_pictures(dy[part, ..., some])
            if w is not None:
                of_some = _kernel_tiles(w[some])
                if d_tiles is None:
                    d_tiles = _product(d_products, of_some, "gradient of tiles")
                else:
                    d_tiles.baddbmm_(d_products, of_some)
            if tiles is not None and dw is not None:
                of_some = _product(d_products.transpose(1, 2), tiles, "gradient of kernels")
                _write_kernels(of_some, dw[some], add=part.start > 0)
        if d_tiles is not None and dx is not None:
            _write_tiles(d_tiles, dx[part], edge)
    return tuple(None if d is None else d.permute(0, 3, 1, 2) for d in (dx, dw))  # type: ignore[return-value]


def _slices(number: int, size: int) -> list[slice]:
    return [slice(i, i + size) for i in range(0, number, size)]


def _parts(x: Tensor, channels: int) -> list[slice]:
    """The pictures x (B, H, W, any), as many at a time as the cache takes in tiles of so many channels."""
    in_tiles = 36 * x.shape[1] * x.shape[2] * channels // 16
    return _slices(len(x), max(1, NUMBERS_AT_ONCE // in_tiles))


def _blocks(kernels: int, channels: int) -> list[slice]:
    """The kernels (O, 3, 3, C), as many at a time as the cache takes in tiles; whole lanes of them."""
    lanes_in_tiles = LANES * 36 * channels
    return _slices(kernels, LANES * max(1, KERNEL_NUMBERS_AT_ONCE // lanes_in_tiles))


def _held(name: str, *shape: int) -> Tensor:
    """A tensor without values, in memory that this thread keeps: the transforms cost less than fresh memory would."""
    number = math.prod(shape)
    kept: Tensor | None = getattr(_memory, name, None)
    if kept is None or len(kept) < number:
        with torch.inference_mode(False):
            kept = torch.empty(number)
        setattr(_memory, name, kept)
    return kept[:number].view(shape)


def _product(a: Tensor, b: Tensor, name: str = "products") -> Tensor:
    """(36, m, k) times (36, k, n), in the memory of that name."""
    out = _held(name, 36, a.shape[1], b.shape[2])
    return torch.bmm(a, b, out=out)


# The transforms; see winograd.c.


def _tiles_of(x: Tensor, edge: Edge) -> Tensor:
    """(b, H, W, C) to (36, tiles, C)."""
    batch, height, width, channels = x.shape
    tiles = _held("tiles", 36, batch * height * width // 16, channels)
    call("tiles_of", x, tiles, *x.shape, _EDGES.index(edge))
    return tiles


def _write_tiles(tiles: Tensor, x: Tensor, edge: Edge) -> None:
    """The adjoint of `_tiles_of`, written into x."""
    call("tiles_of_adjoint", tiles, x, *x.shape, _EDGES.index(edge))


def _write_pictures(products: Tensor, y: Tensor, bias: Tensor | None) -> None:
    """(36, tiles, o) into some channels of a picture, y (b, H, W, o)."""
    call("pictures_of", products, y, bias, *y.shape, y.stride(2))


def _read_pictures(y: Tensor) -> Tensor:
    """The adjoint of `_write_pictures`: (b, H, W, o), some channels of a picture, to (36, tiles, o)."""
    batch, height, width, channels = y.shape
    products = _held("products", 36, batch * height * width // 16, channels)
    call("pictures_of_adjoint", y, products, *y.shape, y.stride(2))
    return products


def _kernel_tiles(w: Tensor) -> Tensor:
    """(o, 3, 3, C) to (36, o, C)."""
    kernels, channels = len(w), w.shape[3]
    tiles = _held("kernels", 36, kernels, channels)
    call("kernel_tiles", w, tiles, kernels, channels)
    return tiles


def _write_kernels(tiles: Tensor, w: Tensor, *, add: bool) -> None:
    """The adjoint of `_kernel_tiles`, written into w or added to it."""
    call("kernel_tiles_adjoint", tiles, w, int(add), len(w), w.shape[3])
