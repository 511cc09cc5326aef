"""Convolutions on a CPU with a fraction of the multiplications: Winograd's algorithm, for training too.

A CPU convolves at nearly its peak already, so that only fewer operations help. In F(4 x 4, 3 x 3) [1] the 4 x 4
outputs of a tile come from 36 products instead of 144:

    Y = A^T ((G w G^T) * (B^T x B)) A,

x the 6 x 6 pixels under the tile, w a kernel, * the product of each position, summed over the input channels: 36
products of matrices. It is written in C (native/winograd.c); where that is not compiled, PyTorch convolves, as
`reference` does, which says what is computed. Rounding errors are about 1e-5 of the largest output.

A convolution with 4 x 4 weights and stride 2 is one with 2 x 2 weights and stride 1, of four times the channels: the
pixels of even and of odd rows and columns. F(4 x 4, 2 x 2) takes 25 products for it instead of 64.

The convolution is linear in the picture and in the kernel, so that its gradients are made of the same pieces, and
so are theirs (R1 needs them).

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016.
"""

import threading
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.native import LANES, call, channels_last, supports
from tunit.networks.gradients import inputs_only
from tunit.networks.padding import by_pytorch, padded

Edge = Literal["zeros", "replicate", "reflect"]
_EDGES = ("zeros", "replicate", "reflect")  # as in winograd_tiles.h
_STRIDES = {3: 1, 4: 2}  # of kernels with such sides

FEWEST_CHANNELS = 32  # on both sides; below, the transforms cost more than they save
FEWEST_TILES = 8  # in a batch; below, the kernels' transforms cost more than they save

_kept = threading.local()


def is_worth_it(x: Tensor, weight: Tensor, edge: Edge) -> bool:
    """Whether `convolve` supports these shapes and is faster than PyTorch for them."""
    (batch, channels, height, width), (kernels, _, *sides) = x.shape, weight.shape
    if sides[0] != sides[1] or sides[0] not in _STRIDES:
        return False
    stride = _STRIDES[sides[0]]
    tile = 4 * stride
    if stride == 2 and edge == "replicate":
        return False  # a pixel beyond the edge would belong to two quarters of the picture
    return (
        supports(x)
        and weight.dtype == torch.float32
        and min(stride**2 * channels, kernels) >= FEWEST_CHANNELS
        and kernels % LANES == 0
        and height % tile == width % tile == 0
        and batch * height * width >= tile**2 * FEWEST_TILES
        and not torch.is_autocast_enabled("cpu")
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """What `convolve` computes, by PyTorch, for any sizes."""
    stride = _STRIDES[weight.shape[-1]]
    if edge == "zeros":
        return F.conv2d(x, weight, bias, stride, padding=1)
    return F.conv2d(with_edge(x, edge), weight, bias, stride)


def with_edge(x: Tensor, edge: Edge) -> Tensor:
    """x (B, C, H, W) with a pixel more on each side."""
    if edge == "zeros":
        return F.pad(x, (1, 1, 1, 1))
    if edge == "replicate" and by_pytorch(x):
        # As F.pad does, of whose backward torch.compile takes the layout wrong.
        x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
        return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)
    return padded(x, 1, 1, edge)


# The operators: x (B, C, H, W), weight (O, C, side, side), dy (B, O, H / stride, W / stride), bias (O,), all float32
# on the CPU, in any layout; what they give has the channels last.


@torch.library.custom_op("tunit::convolve", mutates_args=(), device_types="cpu")
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, edge: str) -> Tensor:
    """The convolution of x with one pixel of padding: dy's shape. Can be differentiated twice.

    side: 3, with stride 1; or 4, with stride 2. edge: what lies outside x. Sizes as `is_worth_it` asks, but for
    its lower bounds.
    """
    sizes = _Sizes.of(x, weight, edge)
    y = x.new_empty(sizes.y)
    call(
        f"{sizes.function}_convolve",
        (channels_last(x), sizes.x),
        (channels_last(weight), sizes.weight),
        (None if bias is None else bias.contiguous(), (sizes.kernels,)),
        (y, sizes.y),
        *sizes.workspace_and_numbers(),
        threads=sizes.threads,
    )
    return y.permute(0, 3, 1, 2)


@torch.library.custom_op("tunit::convolution_gradients", mutates_args=(), device_types="cpu")
def convolution_gradients(
    x: Tensor, dy: Tensor, weight: Tensor, edge: str, of_x: bool, of_weight: bool, of_bias: bool
) -> list[Tensor]:
    """Those of dx, dw and db that are asked for, in one pass; they cannot be differentiated."""
    sizes = _Sizes.of(x, weight, edge)
    return _gradients(sizes, x, dy, weight, of_x, of_weight, of_bias)


@torch.library.custom_op("tunit::convolution_picture_gradient", mutates_args=(), device_types="cpu")
def picture_gradient(dy: Tensor, weight: Tensor, edge: str) -> Tensor:
    """dx: the adjoint of the convolution, for given kernels. Can be differentiated."""
    sizes = _Sizes.of_gradient(dy, weight.shape[1], weight.shape[2], edge)
    return _gradients(sizes, None, dy, weight, True, False, False)[0]


@torch.library.custom_op("tunit::convolution_kernel_gradient", mutates_args=(), device_types="cpu")
def kernel_gradient(x: Tensor, dy: Tensor, side: int, edge: str) -> Tensor:
    """dw: the adjoint of the convolution, for given pictures. Can be differentiated."""
    sizes = _Sizes.of_gradient(dy, x.shape[1], side, edge)
    return _gradients(sizes, x, dy, None, False, True, False)[0]


def _gradients(
    sizes: "_Sizes",
    x: Tensor | None,
    dy: Tensor,
    weight: Tensor | None,
    of_x: bool,
    of_weight: bool,
    of_bias: bool,
) -> list[Tensor]:
    """Those of dx (for which weight is needed), dw (for which x is needed) and db that are asked for."""
    dx = dy.new_empty(sizes.x) if of_x else None
    dw = dy.new_empty(sizes.weight) if of_weight else None
    db = dy.new_empty(sizes.kernels) if of_bias else None
    call(
        f"{sizes.function}_backward",
        (channels_last(x) if x is not None and of_weight else None, sizes.x),
        (channels_last(dy), sizes.y),
        (channels_last(weight) if weight is not None and of_x else None, sizes.weight),
        (dx, sizes.x),
        (dw, sizes.weight),
        (db, (sizes.kernels,)),
        *sizes.workspace_and_numbers(),
        threads=sizes.threads,
    )
    found = [None if d is None else d.permute(0, 3, 1, 2) for d in (dx, dw)]
    return [d for d in (*found, db) if d is not None]


class _Sizes:
    """The sizes of a convolution, checked; shapes are those in C, with the channels last."""

    def __init__(
        self, batch: int, height: int, width: int, channels: int, kernels: int, side: int, edge: str
    ) -> None:
        if side not in _STRIDES or edge not in _EDGES or (side == 4 and edge == "replicate"):
            raise ValueError(f"no convolution of {side} x {side} weights with edge {edge!r} is compiled")
        if channels % LANES or kernels % LANES or height % 4 or width % 4:
            raise ValueError(
                f"{channels} channels to {kernels} of {height} x {width} pixels: channels must be multiples of "
                f"{LANES}, pixels of 4"
            )
        stride = _STRIDES[side]
        self.kernels, self.edge = kernels, edge
        self.function = "winograd" if stride == 1 else "winograd_halving"
        self.x = batch, stride * height, stride * width, channels
        self.y = batch, height, width, kernels
        self.weight = kernels, side, side, channels
        self.threads = torch.get_num_threads()

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, edge: str) -> "_Sizes":
        """Of a picture and kernels."""
        batch, channels, height, width = x.shape
        stride = _STRIDES.get(weight.shape[2], 1)
        if height % stride or width % stride:
            raise ValueError(f"{height} x {width} pixels cannot be halved")
        sizes = batch, height // stride, width // stride, channels, len(weight), weight.shape[2], edge
        return cls(*sizes)

    @classmethod
    def of_gradient(cls, dy: Tensor, channels: int, side: int, edge: str) -> "_Sizes":
        """Of the gradient of what the convolution gives."""
        batch, kernels, height, width = dy.shape
        return cls(batch, height, width, channels, kernels, side, edge)

    def workspace_and_numbers(self) -> tuple[tuple[Tensor, tuple[int]], *tuple[int, ...]]:
        """The last arguments in C: memory that this thread keeps, as fresh memory costs more than the transforms."""
        numbers = (*self.y[:3], self.x[3], self.kernels, _EDGES.index(self.edge))
        needed = call(f"{self.function}_workspace", *numbers, threads=self.threads)
        kept: Tensor | None = getattr(_kept, "workspace", None)
        if kept is None or len(kept) < needed:
            with torch.inference_mode(False):
                _kept.workspace = kept = torch.empty(needed)
        return (kept[:needed], (needed,)), *numbers


def _empty_last(like: Tensor, *shape: int) -> Tensor:
    """An empty (B, C, H, W) with the channels last."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


@convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, edge: str) -> Tensor:
    stride = 1 if weight.shape[2] == 3 else 2
    return _empty_last(x, x.shape[0], weight.shape[0], x.shape[2] // stride, x.shape[3] // stride)


@convolution_gradients.register_fake
def _(
    x: Tensor, dy: Tensor, weight: Tensor, edge: str, of_x: bool, of_weight: bool, of_bias: bool
) -> list[Tensor]:
    found = [_empty_last(x, *x.shape)] if of_x else []
    found += [_empty_last(x, *weight.shape)] if of_weight else []
    return found + ([dy.new_empty(dy.shape[1])] if of_bias else [])


@picture_gradient.register_fake
def _(dy: Tensor, weight: Tensor, edge: str) -> Tensor:
    stride = 1 if weight.shape[2] == 3 else 2
    return _empty_last(dy, dy.shape[0], weight.shape[1], stride * dy.shape[2], stride * dy.shape[3])


@kernel_gradient.register_fake
def _(x: Tensor, dy: Tensor, side: int, edge: str) -> Tensor:
    return _empty_last(dy, dy.shape[1], x.shape[1], side, side)


def _keep_two(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What a backward pass needs: two tensors, and the edge, which comes last."""
    ctx.save_for_backward(*inputs[:2])
    ctx.edge = inputs[-1]


def _convolve_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias, _ = ctx.needs_input_grad
    if not torch.is_grad_enabled():
        found = iter(convolution_gradients(x, dy, weight, ctx.edge, of_x, of_weight, of_bias))
        return *(next(found) if wanted else None for wanted in (of_x, of_weight, of_bias)), None
    of_weight = of_weight and not inputs_only()
    dx = picture_gradient(dy, weight, ctx.edge) if of_x else None
    dw = kernel_gradient(x, dy, weight.shape[-1], ctx.edge) if of_weight else None
    return dx, dw, dy.sum((0, 2, 3)) if of_bias else None, None


def _picture_gradient_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    dy, weight = ctx.saved_tensors
    of_dy, of_weight, _ = ctx.needs_input_grad
    return (
        convolve(ddx, weight, None, ctx.edge) if of_dy else None,
        kernel_gradient(ddx, dy, weight.shape[-1], ctx.edge) if of_weight else None,
        None,
    )


def _kernel_gradient_backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
    x, dy = ctx.saved_tensors
    of_x, of_dy, *_ = ctx.needs_input_grad
    return (
        picture_gradient(dy, ddw, ctx.edge) if of_x else None,
        convolve(x, ddw, None, ctx.edge) if of_dy else None,
        None,
        None,
    )


convolve.register_autograd(_convolve_backward, setup_context=_keep_two)
picture_gradient.register_autograd(_picture_gradient_backward, setup_context=_keep_two)
kernel_gradient.register_autograd(_kernel_gradient_backward, setup_context=_keep_two)
