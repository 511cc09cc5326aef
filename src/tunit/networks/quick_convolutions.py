"""Convolutions for inference with fewer multiplications: the same results but for rounding, several times as fast.

A processor computes G at nearly its peak, so that only another way of computing helps: Winograd's [1], in which 4 x 4
outputs of a 3 x 3 convolution come from 6 x 6 products instead of 144. Its rounding errors are of the order of 1e-5
of the largest output, far below a grey level (tests hold it to float64). The up-sampling convolutions are 3 x 3 ones
of the small picture already (networks.upsampling).

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016, F(4 x 4, 3 x 3).
"""

import copy
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.generator import Generator
from tunit.networks.upsampling import KERNEL, reflect_edges, repeat_edges, weight_for_small

TILE = 4  # outputs per tile and side
WORTH_IT = 32  # channels on both sides; below, moving data costs more than multiplying
TILES_AT_ONCE = 128  # so that what they hold stays in the cache

# The matrices of F(4, 3), [1] section 4.3: y = A ((G w) * (B d)).
_B = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_G = (
    torch.tensor(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
    )
    / 24
)
_A = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)


class QuickConvolution(nn.Module):
    """A 3 x 3 convolution by Winograd's algorithm, of pictures padded beforehand.

    weight: (O, C, 3, 3); bias: (O,). Few channels, or sides that are no whole tiles, are convolved as usual.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.quick = min(weight.shape[:2]) >= WORTH_IT
        if self.quick:
            self.register_buffer("products", _kernels(torch.kron(_G, _G), weight))  # (36, O, C)
            self.register_buffer("into", torch.kron(_B, _B).to(weight))  # (36, 36)
            self.register_buffer("out_of", torch.kron(_A, _A).to(weight))  # (16, 36)

    weight: Tensor
    bias: Tensor
    products: Tensor
    into: Tensor
    out_of: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H + 2, W + 2) to (B, O, H, W)."""
        rows, columns = (x.shape[2] - 2) // TILE, (x.shape[3] - 2) // TILE
        if not self.quick or x.shape[2] != TILE * rows + 2 or x.shape[3] != TILE * columns + 2:
            return F.conv2d(x, self.weight, self.bias)
        y = x.new_empty(len(x), len(self.weight), rows, TILE, columns, TILE)
        step = max(1, TILES_AT_ONCE // (rows * columns))
        for i in range(0, len(x), step):
            self._tiled(x[i : i + step], y[i : i + step])
        return y.view(len(x), -1, TILE * rows, TILE * columns).add_(self.bias[:, None, None])

    def _tiled(self, x: Tensor, y: Tensor) -> None:
        """Write the convolution of x (B, C, H + 2, W + 2) into y: (B, O, H / 4, 4, W / 4, 4)."""
        batch, channels = x.shape[:2]
        side = TILE + 2
        tiles = x.unfold(2, side, TILE).unfold(3, side, TILE)  # (B, C, H / 4, W / 4, 6, 6)
        tiles = tiles.permute(4, 5, 1, 0, 2, 3).reshape(side * side, -1)
        tiles = (self.into @ tiles).view(side * side, channels, -1)  # (36, C, tiles)
        z = self.out_of @ torch.bmm(self.products, tiles).flatten(1)  # (16, O * tiles)
        z = z.view(TILE, TILE, -1, batch, y.shape[2], y.shape[4])
        y.copy_(z.permute(3, 2, 4, 0, 5, 1))


class QuickReflectConvolution(nn.Module):
    """In place of a `ReflectConv2d` of 3 x 3."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.inner = QuickConvolution(*_values(convolution))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        y: Tensor = self.inner(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        return y


class QuickUpConvolution(nn.Module):
    """In place of an `UpsamplingConv2d`."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = _values(convolution)
        self.inner = QuickConvolution(weight_for_small(weight), bias.repeat_interleave(4))
        self.register_buffer("weight", weight)

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, O, 2 h, 2 w)."""
        return reflect_edges(F.pixel_shuffle(self.inner(repeat_edges(x)), 2), x, self.weight)


class WideConvolution(nn.Module):
    """In place of a `ReflectConv2d` of 7 x 7, which oneDNN computes twice as fast with the channels last."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.inner = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        y: Tensor = self.inner(x.contiguous(memory_format=torch.channels_last))
        return y.contiguous()


def is_worth_it(generator: nn.Module) -> TypeGuard[Generator]:
    """Whether G is of the kind, and wide enough, for a quick copy to be quicker."""
    return isinstance(generator, Generator) and generator.decoder.to_picture.in_channels >= WORTH_IT


def quick_copy_of(generator: Generator) -> Generator:
    """A copy of G for inference alone, whose large convolutions are quick ones."""
    quick = copy.deepcopy(generator)
    encoder, decoder = quick.content_encoder, quick.decoder
    encoder.stem = WideConvolution(_checked(encoder.stem, 7))  # type: ignore[assignment]
    decoder.to_picture = WideConvolution(_checked(decoder.to_picture, 7))  # type: ignore[assignment]
    for residual in (encoder.residual, decoder.residual):
        for i, convolution in enumerate(residual):
            residual[i] = QuickReflectConvolution(_checked(convolution, 3))
    for i, convolution in enumerate(decoder.up):
        decoder.up[i] = QuickUpConvolution(_checked(convolution, KERNEL))
    return quick.requires_grad_(False)


def _kernels(matrix: Tensor, weight: Tensor) -> Tensor:
    """`matrix` (N, k * k) times every kernel of weight (O, C, k, k): (N, O, C)."""
    kernels = weight.flatten(2).permute(2, 0, 1).flatten(1)  # (k * k, O * C)
    return (matrix.to(kernels) @ kernels).view(-1, *weight.shape[:2])


def _checked(convolution: nn.Module, side: int) -> nn.Conv2d:
    """Whether it is what the copy assumes of G; a change there must not go unnoticed here."""
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.kernel_size == (side, side)
    assert convolution.padding_mode == "reflect"
    return convolution


def _values(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert convolution.bias is not None
    return convolution.weight.detach().contiguous(), convolution.bias.detach()
