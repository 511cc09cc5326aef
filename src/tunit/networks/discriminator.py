"""The multi-task discriminator D: one real-or-fake logit per domain.

Source: TUNIT's appendix; the idea is from Mescheder et al. 2018 and FUNIT; the norm is FRN (filter_response.py).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tunit.networks.filter_response import FilterResponseNorm
from tunit.networks.generator import default_width
from tunit.networks.layers import LEAKY_SLOPE, Conv3x3, count_halvings, initialise_fan_in
from tunit.networks.penalised import PenalisedConv2d
from tunit.networks.precision import at_least_float32

WIDEST = 1024  # the most channels of a layer


class ActivationFirstBlock(nn.Module):
    """A residual block, (shortcut + residual) / sqrt(2), with an activation before each convolution.

    halve: average 2 x 2 pixels in both paths. activation: makes this layer from the number of channels; FRN in
    TUNIT's D, LeakyReLU in FUNIT's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        halve: bool,
        activation: Callable[[int], nn.Module] = FilterResponseNorm,
    ) -> None:
        super().__init__()
        self.halve = halve
        self.norm1 = activation(in_channels)
        self.conv1 = Conv3x3(in_channels, in_channels)
        self.norm2 = activation(in_channels)
        self.conv2 = Conv3x3(in_channels, out_channels)
        self.shortcut = (
            PenalisedConv2d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H, W), or to half the sides."""
        residual = self.conv1(self.norm1(x))
        if self.halve:
            # A 1 x 1 convolution and averaging can be swapped; with averaging first, the convolution of the shortcut
            # takes a quarter of the time.
            residual, x = halved(residual), halved(x)
        residual = self.conv2(self.norm2(residual))
        if self.shortcut is not None:
            x = self.shortcut(x)
        out: Tensor = (x + residual) / math.sqrt(2)
        return out


def halved(x: Tensor) -> Tensor:
    """The means of 2 x 2 pixels: (B, C, H, W) to (B, C, H / 2, W / 2). H, W: even.

    The result is F.avg_pool2d's. But if its gradient is differentiated, as for R1, PyTorch adds a picture of zeros to
    the gradient of x, and this picture does not have the channels last.
    """
    y: Tensor = Halved.apply(x)  # type: ignore[no-untyped-call]
    return y


class Halved(Function):
    """The operation of `halved`. It is linear, so its gradient needs no tensor from the forward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """PyTorch's pooling."""
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        """A quarter of the gradient for each of the four pixels."""
        dx: Tensor = Spread.apply(dy)  # type: ignore[no-untyped-call]
        return dx


class Spread(Function):
    """The gradient of `Halved`: (B, C, H, W) to (B, C, 2 H, 2 W)."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor) -> Tensor:
        """Divide before the pixels are repeated, while there are fewer of them."""
        return F.interpolate(dy / 4, scale_factor=2, mode="nearest")

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Tensor:
        """The sum of four quarters is their mean."""
        dy: Tensor = Halved.apply(ddx)  # type: ignore[no-untyped-call]
        return dy


def _as_matrix(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose kernel is as large as x (B, C, H, W), as a product of matrices: (B, out, 1, 1)."""
    # Channels last, as both are in memory already.
    pixels, kernels = (t.permute(0, 2, 3, 1).flatten(1) for t in (x, convolution.weight))
    return F.linear(pixels, kernels, convolution.bias)[:, :, None, None]


class DomainDiscriminator(nn.Module):
    """The base of every D: it judges whether pictures (B, 3, S, S) in [-1, 1] are real pictures of their domains."""

    def judge(self, x: Tensor, y: Tensor) -> Tensor:
        """D_y(x): the logit (B,) of each picture for its domain y (B,), or the logits (B, h, h) of its patches."""
        raise NotImplementedError

    def set_domains(self, domains: int) -> None:
        """Change the number of domains (if the network can): with --domains auto it is found during training."""
        raise NotImplementedError


class Discriminator(DomainDiscriminator):
    """D: pictures (B, 3, S, S) in [-1, 1] to one logit per domain (B, domains).

    image_size: a power of two, at least 32. width: base width w; None is the paper's (64, or 32 from 256 px).
    """

    def __init__(self, image_size: int, domains: int, *, width: int | None = None) -> None:
        super().__init__()
        width = width or default_width(image_size)
        blocks: list[nn.Module] = []
        channels = width
        for _ in range(count_halvings(image_size, 4)):
            wider = min(2 * channels, WIDEST)
            blocks.append(ActivationFirstBlock(channels, channels, halve=False))
            blocks.append(ActivationFirstBlock(channels, wider, halve=True))
            channels = wider
        self.stem = Conv3x3(3, width)
        self.blocks = nn.Sequential(*blocks)
        self.gather = nn.Conv2d(channels, channels, 4)  # 4 x 4 to 1 x 1
        self.head = nn.Conv2d(channels, domains, 1)
        initialise_fan_in(self)

    def set_domains(self, domains: int) -> None:
        """Replace the last layer by a new one for this many domains, initialised by torch's global generator."""
        head = nn.Conv2d(self.head.in_channels, domains, 1)
        initialise_fan_in(head)
        self.head = head.to(self.head.weight).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """All domains' logits, (B, domains)."""
        h = self.blocks(self.stem(x))
        # The kernels cover the whole picture, so these convolutions are computed as matrix products, which is faster.
        h = _as_matrix(self.gather, F.leaky_relu(h, LEAKY_SLOPE))
        return _as_matrix(self.head, F.leaky_relu(h, LEAKY_SLOPE)).flatten(1)

    def judge(self, x: Tensor, y: Tensor) -> Tensor:
        """D_y(x): the logit (B,) of each picture for its label or pseudo-label y, (B,) in [0, domains)."""
        logits: Tensor = self(x)
        own = logits.gather(1, y[:, None]).squeeze(1)
        return own.to(at_least_float32(x))
