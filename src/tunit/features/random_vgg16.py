"""VGG-16 with seeded random weights, as a feature network.

References:
    [1] Naeem et al. Reliable fidelity and diversity metrics, ICML 2020 (random embeddings, section 3.3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.features.imagenet import imagenet_normalised

# The widths of the layers, in multiples of 64 channels; "M" is a 2 x 2 max-pool.
VGG16 = (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M")
VGG_SIDE, VGG_WIDTH, VGG_SEED = 64, 1024, 20200222


class RandomVGG16(nn.Module):
    """VGG-16 with seeded random weights [1]: it needs no download, and does not prefer any kind of pictures.

    To be fast enough on a CPU, it resizes pictures to 64 px, and its fully connected layers have a quarter of VGG's
    width. The features are the output of the second fully connected layer, before its ReLU.
    """

    def __init__(self, seed: int = VGG_SEED) -> None:
        super().__init__()
        # PyTorch's own initialisation, which is replaced below, must not advance the global random numbers.
        with torch.random.fork_rng(devices=[]):
            self._build()
        self.float()  # also if a program has set another default dtype
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            # He's initialisation keeps the scale through the ReLUs; biases are 0.
            spread = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
            parameter.data = spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.requires_grad_(False)

    def _build(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for item in VGG16:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, 64 * item, 3, padding=1), nn.ReLU()]
                channels = 64 * item
        side = VGG_SIDE // 2 ** VGG16.count("M")
        self.trunk = nn.Sequential(*layers)
        self.first = nn.Linear(channels * side * side, VGG_WIDTH)
        self.second = nn.Linear(VGG_WIDTH, VGG_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] to (B, 1024)."""
        side = (VGG_SIDE, VGG_SIDE)
        x = F.interpolate(imagenet_normalised(x), side, mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = self.second(F.relu(self.first(self.trunk(x).flatten(1))))
        return features
