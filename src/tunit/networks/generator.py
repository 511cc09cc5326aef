"""The generator G: a content encoder, and a decoder whose AdaIN layers are driven by a style code.

Source: TUNIT's appendix; the design follows FUNIT (Liu et al., ICCV 2019).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.guide import STYLE_WIDTH
from tunit.networks.instance_norm import adaptive_instance_norm, instance_norm
from tunit.networks.layers import (
    ReflectConv2d,
    count_halvings,
    initialise_fan_in,
)
from tunit.networks.upsampling import UpsamplingConv2d

CONTENT_SIZE = 16  # side of the content code of the paper's G, for any image size
RESIDUAL_SCALE = 0.1  # factor on the residual path of a block
RESIDUAL_BLOCKS = 2
STYLE_HIDDEN = 256  # width of the hidden layers from a style code to AdaIN parameters


def default_width(image_size: int) -> int:
    """The paper's base width of G and D: 64, or 32 from 256 px on."""
    return 64 if image_size < 256 else 32


class ContentEncoder(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1] to content codes (B, width * 2^n, S / 2^n, S / 2^n), with n = `halvings`."""

    def __init__(self, halvings: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(halvings + 1)]
        self.stem = ReflectConv2d(3, width, 7)
        self.down = nn.ModuleList(ReflectConv2d(a, b, 4, stride=2) for a, b in pairwise(widths))
        self.residual = nn.ModuleList(
            ReflectConv2d(widths[-1], widths[-1], 3) for _ in range(2 * RESIDUAL_BLOCKS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The content code c of x."""
        for conv in (self.stem, *self.down):
            x = F.relu(instance_norm(conv(x)))
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            h = F.relu(instance_norm(first(x)))
            x = x + RESIDUAL_SCALE * instance_norm(second(h))
        return x


class Decoder(nn.Module):
    """Content codes and AdaIN parameters to pictures (B, 3, S, S) in [-1, 1].

    adaptive_up: use AdaIN after the up-sampling convolutions, too, instead of plain instance norm.
    """

    def __init__(self, doublings: int, width: int, *, adaptive_up: bool = True) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(doublings, -1, -1)]
        self.residual = nn.ModuleList(
            ReflectConv2d(widths[0], widths[0], 3) for _ in range(2 * RESIDUAL_BLOCKS)
        )
        self.up = nn.ModuleList(UpsamplingConv2d(a, b) for a, b in pairwise(widths))
        self.to_picture = ReflectConv2d(width, 3, 7)
        # The AdaIN layers in network order; each takes `width` shifts, then `width` scales.
        self.adain_widths = [widths[0]] * (2 * RESIDUAL_BLOCKS) + (widths[1:] if adaptive_up else [])
        self.adaptive_up = adaptive_up

    def forward(self, c: Tensor, adain: Tensor) -> Tensor:
        """Pictures from c (B, C, h, h) and AdaIN parameters (B, 2 * sum of adain_widths)."""
        parameters = iter(torch.split(adain, [w for w in self.adain_widths for _ in range(2)], dim=1))
        x = c
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            h = F.relu(adaptive_instance_norm(first(x), next(parameters), next(parameters)))
            h = adaptive_instance_norm(second(h), next(parameters), next(parameters))
            x = x + RESIDUAL_SCALE * h
        for conv in self.up:
            x = conv(x)
            if self.adaptive_up:
                x = adaptive_instance_norm(x, next(parameters), next(parameters))
            else:
                x = instance_norm(x)
            x = F.relu(x)
        return torch.tanh(self.to_picture(x))


def make_style_mlp(style_width: int, adain_widths: list[int]) -> nn.Sequential:
    """Style codes (B, style_width) to a shift and a scale of each channel: (B, 2 * sum of adain_widths)."""
    return nn.Sequential(
        nn.Linear(style_width, STYLE_HIDDEN),
        nn.ReLU(),
        nn.Linear(STYLE_HIDDEN, STYLE_HIDDEN),
        nn.ReLU(),
        nn.Linear(STYLE_HIDDEN, 2 * sum(adain_widths)),
    )


class StyledGenerator(nn.Module):
    """The base of every G: a content encoder, and a decoder whose AdaIN parameters come from a style code."""

    content_encoder: nn.Module
    decoder: nn.Module
    style_mlp: nn.Module

    def encode(self, x: Tensor) -> Tensor:
        """The content code c of x (B, 3, S, S) in [-1, 1]. For the paper's G it is (B, width * S / 16, 16, 16)."""
        c: Tensor = self.content_encoder(x)
        return c

    def decode(self, c: Tensor, s: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] with the content code c and the style code s: (B, style width)."""
        x: Tensor = self.decoder(c, self.style_mlp(s))
        return x

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """G(x, s): x redrawn with the style code s."""
        return self.decode(self.encode(x), s)


class Generator(StyledGenerator):
    """G: `encode` gives the content code of a picture, `decode` redraws it with a style code.

    image_size: a power of two, at least 32. width: base width f; None is the paper's (64, or 32 from 256 px).
    halvings: down-samplings; None is the paper's number, which ends at 16 px. adaptive_up: AdaIN in the
    up-sampling layers too, as in the paper.
    """

    def __init__(
        self,
        image_size: int,
        *,
        width: int | None = None,
        style_width: int = STYLE_WIDTH,
        halvings: int | None = None,
        adaptive_up: bool = True,
    ) -> None:
        super().__init__()
        width = width or default_width(image_size)
        halvings = count_halvings(image_size, CONTENT_SIZE) if halvings is None else halvings
        self.content_encoder: ContentEncoder = ContentEncoder(halvings, width)
        self.decoder: Decoder = Decoder(halvings, width, adaptive_up=adaptive_up)
        self.style_mlp = make_style_mlp(style_width, self.decoder.adain_widths)
        initialise_fan_in(self)
