"""The networks of the FUNIT baseline, configuration A of table 1: class encoder, generator, patch discriminator.

Source: FUNIT (Liu et al., Few-shot unsupervised image-to-image translation, ICCV 2019), the baseline of TUNIT's
table 1.

The networks are designed for 128 px. For smaller pictures, G has fewer down-samplings and D fewer poolings, so that
the content code is still 16 x 16 and D's map of patches 8 x 8. For larger pictures, codes and maps are larger.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.discriminator import WIDEST, ActivationFirstBlock, DomainDiscriminator
from tunit.networks.generator import CONTENT_SIZE, Generator
from tunit.networks.guide import Guidance, GuidingNetwork
from tunit.networks.layers import LEAKY_SLOPE, ReflectConv2d, count_halvings, initialise_fan_in
from tunit.networks.padding import padded
from tunit.networks.penalised import PenalisedConv2d
from tunit.networks.precision import at_least_float32

WIDTH = 64  # base width of all three networks, for any image size
CODE_WIDTH = 64
DOWN_SAMPLINGS = 3  # of the content encoder
# The class encoder's stride-2 convolutions: how many double the width, and how many keep it.
DOUBLINGS, KEEPINGS = 2, 2
PAIRS = 5  # pairs of residual blocks in D, with a pooling between them
PATCHES = 8  # side of D's map of patches at 128 px and below


class ClassEncoder(GuidingNetwork):
    """The class encoder, used in place of E: pictures (B, 3, S, S) in [-1, 1] to style codes (B, style width).

    S is at least 32. It learns no domains, because the baseline gets them as labels: all its domain logits are 0.
    """

    def __init__(self, domains: int, *, width: int = WIDTH, style_width: int = CODE_WIDTH) -> None:
        super().__init__()
        self.domains, self.style_width = domains, style_width
        widths = [width * 2 ** min(i, DOUBLINGS) for i in range(DOUBLINGS + KEEPINGS + 1)]
        self.stem = ReflectConv2d(3, width, 7)
        self.down = nn.ModuleList(ReflectConv2d(a, b, 4, stride=2) for a, b in pairwise(widths))
        self.style_head = nn.Linear(widths[-1], style_width)  # a 1 x 1 convolution on averaged features
        initialise_fan_in(self)

    def forward(self, x: Tensor) -> Guidance:
        """The style codes, with logits of 0 (the head computes in float32 under autocast, as E's does)."""
        for conv in (self.stem, *self.down):
            x = F.relu(conv(x))
        features = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, 4 * width)
        with torch.autocast(x.device.type, enabled=False):
            style = self.style_head(features.to(self.style_head.weight.dtype))
        return Guidance(style.new_zeros(x.shape[0], self.domains), style)


class FunitGenerator(Generator):
    """G of the baseline: at most three down-samplings, and AdaIN in the decoder's residual blocks alone.

    image_size: a power of two, at least 32. width: base width; None is 64. Content codes are
    (B, 2 * width, 16, 16) at 32 px, (B, 4 * width, 16, 16) at 64 px, (B, 8 * width, S / 8, S / 8) from 128 px on.
    """

    def __init__(self, image_size: int, *, width: int | None = None, style_width: int = CODE_WIDTH) -> None:
        super().__init__(
            image_size,
            width=width or WIDTH,
            style_width=style_width,
            halvings=min(DOWN_SAMPLINGS, count_halvings(image_size, CONTENT_SIZE)),
            adaptive_up=False,
        )


class PatchDiscriminator(DomainDiscriminator):
    """D of the baseline: pictures (B, 3, S, S) in [-1, 1] to logits of patches per class (B, domains, h, h).

    image_size: a power of two, at least 32; h is 8 up to 128 px, then S / 16. width: base width; None is 64.
    """

    def __init__(self, image_size: int, domains: int, *, width: int | None = None) -> None:
        super().__init__()
        width = width or WIDTH
        widths = [width]
        for _ in range(PAIRS):
            widths.append(min(2 * widths[-1], WIDEST))
        self.poolings = min(PAIRS - 1, count_halvings(image_size, PATCHES))
        self.stem = PenalisedConv2d(3, width, 7)
        self.pairs = nn.ModuleList(
            nn.Sequential(
                ActivationFirstBlock(a, a, halve=False, activation=_leaky),
                ActivationFirstBlock(a, b, halve=False, activation=_leaky),
            )
            for a, b in pairwise(widths)
        )
        self.head = PenalisedConv2d(widths[-1], domains, 1)
        initialise_fan_in(self)

    def features(self, x: Tensor) -> Tensor:
        """The input of the last layer (LeakyReLU and 1 x 1 convolution) for x: (B, C, h, h)."""
        h: Tensor = self.stem(x)
        for i, pair in enumerate(self.pairs):
            h = pair(h)
            if i < self.poolings:
                h = F.avg_pool2d(padded(h, 1, 1, "reflect"), 3, stride=2)
        return h

    def judge_features(self, features: Tensor, y: Tensor) -> Tensor:
        """As `judge`, from each picture's `features`: logits (B, h, h) for its class y, (B,) in [0, domains)."""
        logits: Tensor = self.head(F.leaky_relu(features, LEAKY_SLOPE))
        own = logits[torch.arange(len(y), device=y.device), y]
        return own.to(at_least_float32(features))

    def judge(self, x: Tensor, y: Tensor) -> Tensor:
        """D_y(x): the logits of each picture's patches (B, h, h) for its class y, (B,) in [0, domains)."""
        return self.judge_features(self.features(x), y)

    def forward(self, x: Tensor) -> Tensor:
        """All classes' logits, (B, domains, h, h)."""
        logits: Tensor = self.head(F.leaky_relu(self.features(x), LEAKY_SLOPE))
        return logits


def _leaky(channels: int) -> nn.Module:
    return nn.LeakyReLU(LEAKY_SLOPE)
