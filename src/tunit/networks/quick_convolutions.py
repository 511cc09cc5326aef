"""Convolutions for inference with fewer multiplications: the same results but for rounding, several times as fast.

A processor computes G at nearly its peak, so that only another way of computing helps. Two are combined here.

Up-sampling: a 5 x 5 convolution of a picture doubled by repetition meets each pixel of the small picture several
times. Its four outputs per small pixel are four 3 x 3 convolutions of the small picture, with the weights that meet
the same pixel summed beforehand: 9 multiplications instead of 25.

Winograd [1]: 4 x 4 outputs of a 3 x 3 convolution come from 6 x 6 products instead of 144. Its rounding errors
are of the order of 1e-5 of the largest output, far below a grey level (tests hold it to float64).

References:
    [1] Lavin, Gray. Fast algorithms for convolutional neural networks, CVPR 2016, F(4 x 4, 3 x 3).
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.generator import RESIDUAL_SCALE, Decoder, Generator
from tunit.networks.layers import adaptive_instance_norm, instance_norm

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
# Which of 5 weights in a row meet which of 3 small pixels, for even and odd outputs: (2, 3, 5).
_MEET = torch.tensor(
    [
        [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
        [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]],
    ],
    dtype=torch.float64,
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
    """In place of a doubling by repetition and the `ReflectConv2d` of 5 x 5 that follows it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = _values(convolution)
        meet = torch.einsum("aik,bjl->abijkl", _MEET, _MEET).reshape(4 * 9, 25)
        four = (
            _kernels(meet, weight).view(4, 3, 3, *weight.shape[:2]).permute(3, 0, 4, 1, 2)
        )  # (O, 4, C, 3, 3)
        self.inner = QuickConvolution(four.flatten(0, 1), bias.repeat_interleave(4))
        self.register_buffer("weight", weight)

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, 2 H, 2 W)."""
        y = F.pixel_shuffle(self.inner(F.pad(x, (1, 1, 1, 1), mode="replicate")), 2)
        # Reflection beyond the edge of the doubled picture meets 0, 1 where the repeated edge is 0, 0: what
        # the outermost weights then meet too little is added, to the outermost outputs alone.
        for edge, inside, weight in ((0, 1, self.weight[:, :, :1]), (-1, -2, self.weight[:, :, -1:])):
            lack = (x[:, :, inside] - x[:, :, edge]).repeat_interleave(2, 2)[:, :, None]
            y[:, :, edge] += F.conv2d(F.pad(lack, (2, 2, 0, 0), mode="reflect"), weight)[:, :, 0]
        for edge, inside, weight in ((0, 1, self.weight[..., :1]), (-1, -2, self.weight[..., -1:])):
            lack = (x[..., inside] - x[..., edge]).repeat_interleave(2, 2)[..., None]
            y[..., edge] += F.conv2d(F.pad(lack, (0, 0, 2, 2), mode="replicate"), weight)[..., 0]
        return y


class WideConvolution(nn.Module):
    """In place of a `ReflectConv2d` of 7 x 7, which oneDNN computes twice as fast with the channels last."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.inner = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        y: Tensor = self.inner(x.contiguous(memory_format=torch.channels_last))
        return y.contiguous()


class QuickDecoder(nn.Module):
    """In place of G's `Decoder`: the same steps, but the doubling is left to the convolution after it."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.residual = nn.ModuleList(QuickReflectConvolution(_checked(c, 3)) for c in decoder.residual)
        self.up = nn.ModuleList(QuickUpConvolution(_checked(c, 5)) for c in decoder.up)
        self.to_picture = WideConvolution(_checked(decoder.to_picture, 7))
        self.adain_widths, self.adaptive_up = decoder.adain_widths, decoder.adaptive_up

    def forward(self, c: Tensor, adain: Tensor) -> Tensor:
        """As `Decoder.forward`."""
        parameters = iter(torch.split(adain, [w for w in self.adain_widths for _ in range(2)], dim=1))
        x = c
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            h = F.relu(adaptive_instance_norm(first(x), next(parameters), next(parameters)))
            h = adaptive_instance_norm(second(h), next(parameters), next(parameters))
            x = x + RESIDUAL_SCALE * h
        for convolution in self.up:
            x = convolution(x)
            if self.adaptive_up:
                x = adaptive_instance_norm(x, next(parameters), next(parameters))
            else:
                x = instance_norm(x)
            x = F.relu(x)
        return torch.tanh(self.to_picture(x))


def is_worth_it(generator: Generator) -> bool:
    """Whether G is wide enough for a quick copy to be quicker."""
    return generator.decoder.to_picture.in_channels >= WORTH_IT


def quick_copy_of(generator: Generator) -> Generator:
    """A copy of G for inference alone, whose large convolutions are quick ones."""
    quick = copy.deepcopy(generator)
    encoder = quick.content_encoder
    encoder.stem = WideConvolution(_checked(encoder.stem, 7))  # type: ignore[assignment]
    for i, convolution in enumerate(encoder.residual):
        encoder.residual[i] = QuickReflectConvolution(_checked(convolution, 3))
    quick.decoder = QuickDecoder(quick.decoder)  # type: ignore[assignment]
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
