"""ResNet-50 without its classifier, and loading the published checkpoints of MoCo v2 into it.

References:
    [1] He et al. Deep residual learning for image recognition, CVPR 2016: bottleneck blocks, here with the stride in
    the 3 x 3 convolution, as those checkpoints have it.
    [2] Chen et al. Improved baselines with momentum contrastive learning, 2020 (MoCo v2).
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from tunit.errors import ConfigError
from tunit.files.pickles import PickleError, RefusedPickle, read_pickle

WIDTHS, BLOCKS = (64, 128, 256, 512), (3, 4, 6, 3)  # the widths and the numbers of blocks of the four stages
EXPANSION = 4  # the output width of a bottleneck divided by its inner width
QUERY = "module.encoder_q."  # MoCo's encoder; the rest is its momentum copy and its queue
HEAD = "fc."  # the projection head, on which the contrastive loss is computed


class Bottleneck(nn.Module):
    """1 x 1 to `width`, 3 x 3 with the stride, 1 x 1 to four times `width`, plus the shortcut [1]."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential()
        if stride != 1 or channels != out:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, 4 * width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class ResNet50(nn.Module):
    """Pictures (B, 3, S, S), normalised, to the 2,048 features before the classifier (B, 2048) [1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        stages = []
        for i, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            stage = [Bottleneck(channels, width, stride=1 if i == 0 else 2)]
            channels = EXPANSION * width
            stage += [Bottleneck(channels, width) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 2048), averaged over space."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def load_moco(path: Path) -> ResNet50:
    """The ResNet-50 of a MoCo v2 checkpoint [2], in evaluation mode, on the CPU.

    No code of the file is run. Raises ConfigError if it is not such a checkpoint.
    """
    try:
        content = read_pickle(path)
    except RefusedPickle as error:
        raise ConfigError(
            f"{path} holds more than tensors and numbers, or is damaged, so it is not loaded ({error}): give the "
            "published MoCo v2 checkpoint"
        ) from None
    except (PickleError, OSError) as error:
        raise ConfigError(f"{path} is not loaded ({error}): give the published MoCo v2 checkpoint") from None
    weights = content.get("state_dict") if isinstance(content, dict) else None
    own = {
        name.removeprefix(QUERY): value
        for name, value in (weights.items() if isinstance(weights, dict) else ())
        if isinstance(name, str) and name.startswith(QUERY) and isinstance(value, Tensor)
    }
    own = {name: value for name, value in own.items() if not name.startswith(HEAD)}
    if not own:
        raise ConfigError(
            f"{path} has no {QUERY}* tensors under state_dict, so it is not MoCo's: give the published checkpoint"
        )
    network = ResNet50().float()  # also if a program has set another default dtype
    expected = network.state_dict()
    wrong = [name for name, value in expected.items() if name not in own or own[name].shape != value.shape]
    wrong += [name for name in own if name not in expected]
    if wrong:
        raise ConfigError(
            f"{path} is not of a ResNet-50 ({QUERY}{wrong[0]} is missing, of another shape or unknown): give the "
            "published MoCo v2 checkpoint"
        )
    if not all(bool(torch.isfinite(value).all()) for value in own.values()):
        raise ConfigError(f"{path} holds values that are not finite: fetch the MoCo v2 checkpoint again")
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)
