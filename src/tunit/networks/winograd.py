"""3 x 3 convolutions on a CPU with a quarter of the multiplications: Winograd's algorithm, also for training.

PyTorch's convolutions already run near the peak speed of a CPU. Only an algorithm with fewer operations can be
faster. In F(4 x 4, 3 x 3) [1], the 4 x 4 outputs of a tile take 36 products instead of 144:

    Y = A^T ((G w G^T) * (B^T x B)) A,

where x are the 6 x 6 pixels under the tile, w is a kernel, and * multiplies position by position. Summed over the
input channels, for all tiles and kernels, this is one product of matrices for each of the 36 positions. The code is
in C (native/winograd.c); if it is not compiled, PyTorch convolves. `reference` specifies what is computed. Rounding
errors are about 1e-5 of the largest output.

The convolution is linear in the picture and in the kernel. So its gradients, and the gradients of these gradients
(which R1 needs), take only three operations: the convolution itself, and its gradients with respect to the picture
and to the kernel.

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016.
"""

import threading
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.native import LANES, call, channels_last, empty_last, supports
from tunit.networks.gradients import inputs_only
from tunit.networks.operators import cpu_operator, no_gradient
from tunit.networks.padding import by_pytorch, padded

Edge = Literal["zeros", "replicate", "reflect"]
_EDGES = ("zeros", "replicate", "reflect")  # as in winograd_tiles.h
SIDE, OUT = 3, 4  # the sides of a kernel, and of a tile's outputs, as in winograd_tiles.h

# With fewer input or output channels, the transforms cost more time than they save.
FEWEST_CHANNELS = 32
FEWEST_TILES = 8  # with fewer tiles in a batch, transforming the kernels costs more time than it saves

_kept = threading.local()


def is_worth_it(x: Tensor, weight: Tensor, edge: Edge) -> bool:
    """Whether `convolve` supports these shapes and is faster than PyTorch for them."""
    (batch, channels, height, width), (kernels, _, *sides) = x.shape, weight.shape
    return (
        supports(x)
        and sides == [SIDE, SIDE]
        and edge in _EDGES
        and weight.dtype == torch.float32
        and min(channels, kernels) >= FEWEST_CHANNELS
        and kernels % LANES == 0
        and height % OUT == width % OUT == 0
        and batch * height * width >= OUT**2 * FEWEST_TILES
        and not torch.is_autocast_enabled("cpu")
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The specification of `convolve`, in PyTorch, for any sizes."""
    if edge == "zeros":
        return F.conv2d(x, weight, bias, padding=1)
    return F.conv2d(with_edge(x, edge), weight, bias)


def with_edge(x: Tensor, edge: Edge) -> Tensor:
    """x (B, C, H, W) padded by one pixel on each side, with the padding that `edge` names."""
    if edge == "zeros":
        return F.pad(x, (1, 1, 1, 1))
    if edge == "replicate" and by_pytorch(x):
        # The result of F.pad, which is not called because its backward pass gets a wrong memory layout under
        # torch.compile.
        x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
        return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)
    return padded(x, 1, 1, edge)


# The operators take x (B, C, H, W), weight (O, C, 3, 3), dy (B, O, H, W) and bias (O,), all float32 on the CPU, in
# any memory layout. Their results have the channels last.


@cpu_operator("convolve")
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, edge: str) -> Tensor:
    """The convolution of x with one pixel of padding: (B, O, H, W). Can be differentiated twice.

    edge: what lies outside x. C and O must be multiples of LANES, H and W of OUT; there is no lower
    bound, unlike in `is_worth_it`.
    """
    sizes = _Sizes.of(x, weight, edge)
    y = _empty_result(x, sizes.y)
    call(
        "winograd_convolve",
        (channels_last(x), sizes.x),
        (channels_last(weight), sizes.weight),
        (None if bias is None else bias.contiguous(), (sizes.kernels,)),
        (channels_last(y), sizes.y),
        *sizes.workspace_and_numbers(),
        threads=sizes.threads,
    )
    return y


@cpu_operator("convolution_gradients")
def convolution_gradients(
    x: Tensor, dy: Tensor, weight: Tensor, edge: str, of_x: bool, of_weight: bool, of_bias: bool
) -> list[Tensor]:
    """dx, dw and db, as far as they are wanted, in one pass. They cannot be differentiated."""
    sizes = _Sizes.of(x, weight, edge)
    return _gradients(sizes, x, dy, weight, of_x, of_weight, of_bias)


@cpu_operator("convolution_picture_gradient")
def picture_gradient(dy: Tensor, weight: Tensor, edge: str) -> Tensor:
    """dx, the gradient of the convolution with respect to the picture. Can be differentiated."""
    sizes = _Sizes.of_gradient(dy, weight.shape[1], tuple(weight.shape[2:]), edge)
    return _gradients(sizes, None, dy, weight, True, False, False)[0]


@cpu_operator("convolution_kernel_gradient")
def kernel_gradient(x: Tensor, dy: Tensor, edge: str) -> Tensor:
    """dw, the gradient of the convolution with respect to the kernels. Can be differentiated."""
    sizes = _Sizes.of_gradient(dy, x.shape[1], (SIDE, SIDE), edge)
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
    """dx (which needs weight), dw (which needs x) and db, as far as they are wanted."""
    dx = _empty_result(dy, sizes.x) if of_x else None
    dw = _empty_result(dy, sizes.weight) if of_weight else None
    db = dy.new_empty(sizes.kernels) if of_bias else None
    call(
        "winograd_backward",
        (channels_last(x) if x is not None and of_weight else None, sizes.x),
        (channels_last(dy), sizes.y),
        (channels_last(weight) if weight is not None and of_x else None, sizes.weight),
        (None if dx is None else channels_last(dx), sizes.x),
        (None if dw is None else channels_last(dw), sizes.weight),
        (db, (sizes.kernels,)),
        *sizes.workspace_and_numbers(),
        threads=sizes.threads,
    )
    return [d for d in (dx, dw, db) if d is not None]


class _Sizes:
    """The sizes of a convolution, checked; shapes are those in C, with the channels last."""

    def __init__(
        self, pictures: tuple[int, int, int], channels: int, kernels: int, sides: tuple[int, ...], edge: str
    ) -> None:
        batch, height, width = pictures
        if sides != (SIDE, SIDE) or edge not in _EDGES:
            weights = " x ".join(map(str, sides))
            raise ValueError(f"no convolution of {weights} weights with edge {edge!r} is compiled")
        if min(batch, height, width, channels, kernels) < 1:
            raise ValueError(
                f"{channels} channels to {kernels} of {batch} x {height} x {width} pixels: none may be 0"
            )
        if channels % LANES or kernels % LANES or height % OUT or width % OUT:
            raise ValueError(
                f"{channels} channels to {kernels} of {height} x {width} pixels: channels must be multiples of "
                f"{LANES}, pixels of {OUT}"
            )
        self.kernels, self.edge = kernels, edge
        self.x = batch, height, width, channels
        self.y = batch, height, width, kernels
        self.weight = kernels, SIDE, SIDE, channels
        self.threads = torch.get_num_threads()

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, edge: str) -> "_Sizes":
        """The sizes for a picture and kernels."""
        batch, channels, height, width = x.shape
        return cls((batch, height, width), channels, len(weight), tuple(weight.shape[2:]), edge)

    @classmethod
    def of_gradient(cls, dy: Tensor, channels: int, sides: tuple[int, ...], edge: str) -> "_Sizes":
        """The sizes for the gradient of a convolution's result."""
        batch, kernels, height, width = dy.shape
        return cls((batch, height, width), channels, kernels, sides, edge)

    def workspace_and_numbers(self) -> tuple[tuple[Tensor, tuple[int]], *tuple[int, ...]]:
        """The last arguments of the C functions: the workspace and the sizes.

        Each Python thread keeps its workspace, because to allocate it again would take longer than the transforms.
        """
        numbers = (*self.y[:3], self.x[3], self.kernels, _EDGES.index(self.edge))
        needed = call("winograd_workspace", *numbers, threads=self.threads)
        kept: Tensor | None = getattr(_kept, "workspace", None)
        if kept is None or len(kept) < needed:
            with torch.inference_mode(False):
                # Whatever PyTorch's default dtype and device are now.
                _kept.workspace = kept = torch.empty(needed, dtype=torch.float32, device="cpu")
        return (kept[:needed], (needed,)), *numbers


def _empty_result(like: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    """As `empty_last`, for `sizes` in the order of C, (B, H, W, C)."""
    batch, height, width, channels = sizes
    return empty_last(like, batch, channels, height, width)


@convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, edge: str) -> Tensor:
    return empty_last(x, x.shape[0], weight.shape[0], *x.shape[2:])


@convolution_gradients.register_fake
def _(
    x: Tensor, dy: Tensor, weight: Tensor, edge: str, of_x: bool, of_weight: bool, of_bias: bool
) -> list[Tensor]:
    found = [empty_last(x, *x.shape)] if of_x else []
    found += [empty_last(x, *weight.shape)] if of_weight else []
    return found + ([dy.new_empty(dy.shape[1])] if of_bias else [])


@picture_gradient.register_fake
def _(dy: Tensor, weight: Tensor, edge: str) -> Tensor:
    return empty_last(dy, dy.shape[0], weight.shape[1], *dy.shape[2:])


@kernel_gradient.register_fake
def _(x: Tensor, dy: Tensor, edge: str) -> Tensor:
    return empty_last(dy, dy.shape[1], x.shape[1], SIDE, SIDE)


def _keep_two(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Save what the backward pass needs: the first two inputs, and the last one, the edge."""
    ctx.save_for_backward(*inputs[:2])
    ctx.edge = inputs[-1]


def _convolve_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias, _ = ctx.needs_input_grad
    if not torch.is_grad_enabled():
        found = iter(convolution_gradients(x, dy, weight, ctx.edge, of_x, of_weight, of_bias))
        return *(next(found) if wanted else None for wanted in (of_x, of_weight, of_bias)), None
    of_weight, of_bias = (wanted and not inputs_only() for wanted in (of_weight, of_bias))
    dx = picture_gradient(dy, weight, ctx.edge) if of_x else None
    dw = kernel_gradient(x, dy, ctx.edge) if of_weight else None
    return dx, dw, dy.sum((0, 2, 3)) if of_bias else None, None


def _picture_gradient_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    dy, weight = ctx.saved_tensors
    of_dy, of_weight, _ = ctx.needs_input_grad
    return (
        convolve(ddx, weight, None, ctx.edge) if of_dy else None,
        kernel_gradient(ddx, dy, ctx.edge) if of_weight else None,
        None,
    )


def _kernel_gradient_backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
    x, dy = ctx.saved_tensors
    of_x, of_dy, _ = ctx.needs_input_grad
    return (
        picture_gradient(dy, ddw, ctx.edge) if of_x else None,
        convolve(x, ddw, None, ctx.edge) if of_dy else None,
        None,
    )


convolve.register_autograd(_convolve_backward, setup_context=_keep_two)
picture_gradient.register_autograd(_picture_gradient_backward, setup_context=_keep_two)
kernel_gradient.register_autograd(_kernel_gradient_backward, setup_context=_keep_two)
convolution_gradients.register_autograd(no_gradient)
