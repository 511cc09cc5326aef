"""The networks of the SEMIT baseline: FUNIT's class encoder with a classifier, and a G of octave convolutions.

References:
    [1] Wang et al. Semi-supervised learning for few-shot image-to-image translation, CVPR 2020 (SEMIT).
    [2] Chen et al. Drop an octave, ICCV 2019 (octave convolution).

D is FUNIT's. docs/baselines.md lists what we decided where [1] leaves it open.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.funit_networks import CODE_WIDTH, DOWN_SAMPLINGS, WIDTH, ClassEncoder
from tunit.networks.generator import (
    CONTENT_SIZE,
    RESIDUAL_BLOCKS,
    RESIDUAL_SCALE,
    StyledGenerator,
    make_style_mlp,
)
from tunit.networks.guide import STYLE_HEAD_STD, Guidance
from tunit.networks.instance_norm import adaptive_instance_norm, instance_norm
from tunit.networks.layers import (
    ReflectConv2d,
    count_halvings,
    initialise_fan_in,
)

SHARE = 0.5  # the share of channels at the low frequency, alpha of [2]
CLASSIFIER_HIDDEN = 256

# Features of two frequencies: (B, high, H, W), and (B, low, H / 2, W / 2) or None if there are no low ones.
Octaves = tuple[Tensor, Tensor | None]


class SemitEncoder(ClassEncoder):
    """The class encoder with an auxiliary classifier [1], so its Guidance has domain logits that are not 0.

    The input of the classifier is the style code alone, so the code must contain the class.
    """

    def __init__(self, domains: int, *, width: int = WIDTH, style_width: int = CODE_WIDTH) -> None:
        super().__init__(domains, width=width, style_width=style_width)
        last = nn.Linear(CLASSIFIER_HIDDEN, domains)
        self.classifier = nn.Sequential(nn.Linear(style_width, CLASSIFIER_HIDDEN), nn.ReLU(), last)
        initialise_fan_in(self.classifier)
        nn.init.normal_(last.weight, 0, STYLE_HEAD_STD)  # at first all classes are equally likely

    def forward(self, x: Tensor) -> Guidance:
        """Pictures (B, 3, S, S) to class logits (B, domains) and style codes, both float32 under autocast."""
        style = super().forward(x).style
        with torch.autocast(x.device.type, enabled=False):
            return Guidance(self.classifier(style), style)


def split_width(width: int, share: float) -> tuple[int, int]:
    """How many of `width` channels have high and how many low frequency; `share` of them are low, but never all."""
    low = min(round(share * width), width - 1)
    return width - low, low


def each_octave(function: Callable[[Tensor], Tensor], x: Octaves) -> Octaves:
    """Apply `function` to each frequency separately."""
    high, low = x
    return function(high), None if low is None else function(low)


def repeat_2x2(x: Tensor) -> Tensor:
    """x (B, C, H, W) with each pixel repeated 2 x 2 times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def octaves_to_tensor(x: Octaves) -> Tensor:
    """Both frequencies in one tensor (B, high + low, H, W); the low one is repeated to the size of the high one."""
    high, low = x
    return high if low is None else torch.cat([high, repeat_2x2(low)], dim=1)


def tensor_to_octaves(x: Tensor, high: int) -> Octaves:
    """The exact inverse of `octaves_to_tensor`. high: the number of channels of high frequency."""
    return x[:, :high], x[:, high:, ::2, ::2] if x.shape[1] > high else None


class OctaveConv2d(nn.Module):
    """Octave convolution [2]: four convolutions between two frequencies, with reflection padding:

        y_high = W_hh * x_high + repeat_2x2(W_lh * x_low)
        y_low  = W_ll * x_low  + W_hl * pool(x_high)

    where pool is the mean of 2 x 2 pixels. inputs, outputs: the numbers of channels of high and of low frequency; if
    there are none of low frequency, the convolutions from or to them are left out. Each output has one bias. The
    stride applies to all four convolutions.
    """

    def __init__(
        self, inputs: tuple[int, int], outputs: tuple[int, int], kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()

        def path(a: int, b: int, *, bias: bool = True) -> ReflectConv2d | None:
            """A convolution from a to b channels; None if one of these numbers is 0."""
            return ReflectConv2d(a, b, kernel_size, stride, bias=bias) if a and b else None

        self.inputs = inputs
        self.high_to_high = ReflectConv2d(inputs[0], outputs[0], kernel_size, stride)
        self.low_to_high = path(inputs[1], outputs[0], bias=False)
        self.high_to_low = path(inputs[0], outputs[1], bias=not inputs[1])
        self.low_to_low = path(inputs[1], outputs[1])

    def forward(self, x: Octaves) -> Octaves:
        """Both frequencies of the output."""
        high, low = x
        y_high: Tensor = self.high_to_high(high)
        y_low: Tensor | None = None
        if self.high_to_low is not None:
            y_low = self.high_to_low(F.avg_pool2d(high, 2))
        if low is not None:
            if self.low_to_high is not None:
                y_high = y_high + repeat_2x2(self.low_to_high(low))
            if self.low_to_low is not None:
                y_low = self.low_to_low(low) if y_low is None else y_low + self.low_to_low(low)
        return y_high, y_low

    @torch.no_grad()
    def share_fan_in(self) -> None:
        """Scale the initial weights to the fan-in of an output, which is the sum of two convolutions.

        Before, each convolution was initialised for its own fan-in.
        """
        paths = (self.high_to_high, self.low_to_high, self.high_to_low, self.low_to_low)
        for conv in paths:
            if conv is not None:
                conv.weight *= math.sqrt(conv.in_channels / sum(self.inputs))


class OctaveEncoder(nn.Module):
    """The content encoder (SEMIT's pose encoder): FUNIT's, with octave convolutions.

    Pictures (B, 3, S, S) in [-1, 1] to content codes (B, width * 2^n, S / 2^n, S / 2^n), with n = `halvings`. In the
    codes, the channels of low frequency come last, repeated to the size of the others (`octaves_to_tensor`).
    """

    def __init__(self, halvings: int, width: int, share: float) -> None:
        super().__init__()
        widths = [split_width(width * 2**i, share) for i in range(halvings + 1)]
        self.stem = OctaveConv2d((3, 0), widths[0], 7)
        self.down = nn.ModuleList(OctaveConv2d(a, b, 4, stride=2) for a, b in pairwise(widths))
        self.residual = nn.ModuleList(
            OctaveConv2d(widths[-1], widths[-1], 3) for _ in range(2 * RESIDUAL_BLOCKS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The content code c of x."""
        features: Octaves = (x, None)
        for conv in (self.stem, *self.down):
            features = each_octave(F.relu, each_octave(instance_norm, conv(features)))
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            h = each_octave(F.relu, each_octave(instance_norm, first(features)))
            features = _add(features, each_octave(instance_norm, second(h)))
        return octaves_to_tensor(features)


class OctaveDecoder(nn.Module):
    """FUNIT's decoder with octave convolutions; AdaIN is per frequency, and only in the residual blocks."""

    def __init__(self, doublings: int, width: int, share: float) -> None:
        super().__init__()
        widths = [split_width(width * 2**i, share) for i in range(doublings, -1, -1)]
        self.widest = widths[0]
        self.residual = nn.ModuleList(
            OctaveConv2d(widths[0], widths[0], 3) for _ in range(2 * RESIDUAL_BLOCKS)
        )
        self.up = nn.ModuleList(OctaveConv2d(a, b, 5) for a, b in pairwise(widths))
        self.to_picture = OctaveConv2d(widths[-1], (3, 0), 7)
        # The AdaIN layers in network order; each takes `width` shifts, then `width` scales, high frequency first.
        self.adain_widths = [sum(widths[0])] * (2 * RESIDUAL_BLOCKS)

    def forward(self, c: Tensor, adain: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] from c (B, C, h, h) and AdaIN parameters (B, 2 * sum of adain_widths)."""
        parameters = iter(adain.chunk(2 * len(self.adain_widths), dim=1))
        features = tensor_to_octaves(c, self.widest[0])
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            h = each_octave(F.relu, self._adapt(first(features), next(parameters), next(parameters)))
            h = self._adapt(second(h), next(parameters), next(parameters))
            features = _add(features, h)
        for conv in self.up:
            features = each_octave(
                F.relu, each_octave(instance_norm, conv(each_octave(repeat_2x2, features)))
            )
        return torch.tanh(self.to_picture(features)[0])

    def _adapt(self, x: Octaves, shift: Tensor, scale: Tensor) -> Octaves:
        """AdaIN of each frequency; shift, scale: (B, high + low)."""
        (shift_high, shift_low), (scale_high, scale_low) = (
            torch.split(t, list(self.widest), 1) for t in (shift, scale)
        )
        high, low = x
        return (
            adaptive_instance_norm(high, shift_high, scale_high),
            None if low is None else adaptive_instance_norm(low, shift_low, scale_low),
        )


def _add(x: Octaves, residual: Octaves) -> Octaves:
    """x + 0.1 * residual of each frequency."""
    (high, low), (more_high, more_low) = x, residual
    return (
        high + RESIDUAL_SCALE * more_high,
        None if low is None or more_low is None else low + RESIDUAL_SCALE * more_low,
    )


class OctaveGenerator(StyledGenerator):
    """G of the SEMIT baseline: FUNIT's G with octave convolutions, and a classifier of its content codes.

    image_size: a power of two, at least 32. domains: the number of classes. width: base width; None is 64. share: the
    share of channels at the low frequency; 0 is FUNIT's G. Content codes have the same shape as FUNIT's.
    """

    def __init__(
        self,
        image_size: int,
        domains: int,
        *,
        width: int | None = None,
        style_width: int = CODE_WIDTH,
        share: float = SHARE,
    ) -> None:
        super().__init__()
        width = width or WIDTH
        halvings = min(DOWN_SAMPLINGS, count_halvings(image_size, CONTENT_SIZE))
        self.content_encoder = OctaveEncoder(halvings, width, share)
        self.decoder = OctaveDecoder(halvings, width, share)
        self.style_mlp = make_style_mlp(style_width, self.decoder.adain_widths)
        self.content_head = nn.Linear(width * 2**halvings, domains)
        initialise_fan_in(self)
        nn.init.normal_(self.content_head.weight, 0, STYLE_HEAD_STD)
        for module in self.modules():
            if isinstance(module, OctaveConv2d):
                module.share_fan_in()

    def read_content(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """The content head's class logits (B, domains), twice: one to train the head, one to train the encoder.

        The input of the head is the spatial mean of c. The first logits pass no gradient to c, the second no gradient
        to the head.
        """
        kind = self.content_head.weight.dtype
        with torch.autocast(c.device.type, enabled=False):
            features = c.mean((2, 3), dtype=torch.promote_types(c.dtype, kind)).to(kind)
            of_head: Tensor = self.content_head(features.detach())
            weight, bias = self.content_head.weight.detach(), self.content_head.bias.detach()
            return of_head, F.linear(features, weight, bias)
