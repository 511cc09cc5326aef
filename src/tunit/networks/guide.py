"""The guiding network E = (E_C, E_S): one VGG-11 trunk, a head for domains and a head for style.

References:
    [1] TUNIT section 3.2 and appendix (the trunk is VGG-11 with batch norm).
    [2] Ji et al. Invariant information clustering, ICCV 2019 (the overclustering head).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.batch_norm import BatchNorm2d
from tunit.networks.layers import Conv3x3

STYLE_WIDTH = 128
STYLE_HEAD_STD = 0.01
TYPICAL_CONTRAST = 0.5  # the standard deviation of a typical photograph whose values go from -1 to 1
# Added to a picture's standard deviation before dividing by it, so that noise on a plain surface is not amplified.
LEAST_CONTRAST = 0.05
# The widths of the layers, as multiples of the base width (64 in the paper); "M" is a 2 x 2 max-pool.
VGG11 = (1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M")


class Guidance(NamedTuple):
    """E's output for a batch of pictures."""

    logits: Tensor  # (B, domains), before the softmax
    style: Tensor  # (B, style width), normalised only if the network has `normalise_style`
    overcluster_logits: Tensor | None = None  # (B, overclusters) if E has the overclustering head
    candidate_logits: Tensor | None = None  # (candidates, B, domains) if E has candidate heads


class GuidingNetwork(nn.Module):
    """The base of every E: pictures (B, 3, S, S) in [-1, 1] to their Guidance."""

    domains: int
    style_width: int
    image_size: int = 0  # pictures with a larger side are shrunk to it; 0: none is

    def set_domains(self, domains: int) -> None:
        """Change the number of domains (if the network can): with --domains auto it is found during training."""
        raise NotImplementedError


class Trunk(nn.Sequential):
    """E's convolutions, batch norms and poolings, one after the other; pictures (B, 3, S, S) to (B, C, S/32, S/32).

    torch.compile does not look into the `forward` of PyTorch's own nn.Sequential if it is what is compiled: each
    layer would be compiled alone, and after eight of them the rest not at all. So this class has its own `forward`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The features of x."""
        for layer in self:
            x = layer(x)
        return x


class Guide(GuidingNetwork):
    """E: pictures (B, 3, S, S) in [-1, 1], S at least 32, to domain logits and style codes.

    image_size: pictures with a larger side are shrunk to it, by averaging; 0: none is, as in the paper.
    overclusters: size of an auxiliary overclustering head [2]; the paper has none (0). candidate_heads: further
    domain heads with other initial weights, like the sub-heads of [2]; the best one may replace the domain head (see
    methods.candidates). The paper has none (0). head_std: standard deviation of the initial weights of all heads
    but the style head. With the paper's 0.01 all pictures start with almost the same soft assignment, and small runs
    have only two clusters for a long time; 0.3 starts from a random partition.
    standardise: see `standardised`.
    normalise_style: style codes are scaled to the norm style_size * sqrt(style_width), so that they cannot grow
    without limit; `style_size` is then the root mean square of their numbers. The paper neither standardises nor
    normalises. whole_statistics: says how batch norms work in inference, see methods.inference.for_whole_pictures.
    """

    def __init__(
        self,
        domains: int,
        *,
        image_size: int = 0,
        width: int = 64,
        style_width: int = STYLE_WIDTH,
        overclusters: int = 0,
        candidate_heads: int = 0,
        head_std: float = STYLE_HEAD_STD,
        standardise: bool = False,
        normalise_style: bool = False,
        style_size: float = 1.0,
        whole_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.standardise, self.normalise_style = standardise, normalise_style
        self.whole_statistics = whole_statistics
        self.domains, self.style_width, self.style_size = domains, style_width, style_size
        layers: list[nn.Module] = []
        channels = 3
        for item in VGG11:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [
                Conv3x3(channels, item * width),
                BatchNorm2d(item * width),
                nn.ReLU(),
            ]
            channels = item * width
        self.trunk = Trunk(*layers)
        self.feature_width = channels
        self.domain_head = nn.Linear(channels, domains)
        self.style_head = nn.Linear(channels, style_width)
        self.overcluster_head = nn.Linear(channels, overclusters) if overclusters else None
        self.candidate_heads = nn.ModuleList(nn.Linear(channels, domains) for _ in range(candidate_heads))
        self._initialise(head_std)

    def _initialise(self, head_std: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, STYLE_HEAD_STD if module is self.style_head else head_std)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def set_domains(self, domains: int) -> None:
        """Replace the domain head and its candidates by heads for this many domains, with all weights 0."""
        self.domains = domains
        heads = [
            nn.Linear(self.feature_width, domains).to(self.domain_head.weight)
            for _ in (0, *self.candidate_heads)
        ]
        for head in heads:
            for values in head.parameters():
                nn.init.zeros_(values).requires_grad_(self.domain_head.weight.requires_grad)
        self.domain_head, *others = heads
        self.candidate_heads = nn.ModuleList(others)

    def trunk_features(self, x: Tensor) -> Tensor:
        """The globally averaged features, the input of all heads: (B, 3, S, S) to (B, 8 * width)."""
        if 0 < self.image_size < x.shape[-1]:
            x = F.avg_pool2d(x, x.shape[-1] // self.image_size)
        x = standardised(x) if self.standardise else x
        return F.adaptive_avg_pool2d(self.trunk(x), 1).flatten(1)

    def forward(self, x: Tensor) -> Guidance:
        """E's output for x (B, 3, S, S). All heads get the same features; under autocast they compute in float32."""
        features = self.trunk_features(x)
        with torch.autocast(x.device.type, enabled=False):
            features = features.to(self.style_head.weight.dtype)
            over = None if self.overcluster_head is None else self.overcluster_head(features)
            heads = [head(features) for head in self.candidate_heads]
            candidates = torch.stack(heads) if heads else None
            style = self.style_head(features)
            if self.normalise_style:
                style = F.normalize(style, dim=1) * (self.style_size * self.style_width**0.5)
            return Guidance(self.domain_head(features), style, over, candidates)


def standardised(x: Tensor) -> Tensor:
    """Pictures (B, 3, S, S), each scaled to mean 0 and the same contrast over all its pixels and colours.

    Photographs of one kind differ mostly in exposure. Example: k-means on the pixels of traffic signs has an accuracy
    of 0.18; after standardising, 0.39.
    """
    std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    return (x - mean) * (TYPICAL_CONTRAST / (std + LEAST_CONTRAST))
