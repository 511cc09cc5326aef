"""The convolutions that the networks share, and the initialisation of their weights.

References:
    [1] He et al. Delving deep into rectifiers, ICCV 2015 (the initialisation).
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.convolution import FEW_CHANNELS, convolve_3x3, convolve_to_few
from tunit.networks.padding import padded

LEAKY_SLOPE = 0.2


class Conv3x3(nn.Conv2d):
    """A 3 x 3 convolution with zero padding; the output has the size of the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H, W)."""
        return convolve_3x3(x, self.weight, self.bias, "zeros")


class ReflectConv2d(nn.Conv2d):
    """A convolution with reflection padding; halves the picture with stride 2 and an even kernel."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, bias: bool = True
    ) -> None:
        padding = (kernel_size - stride + 1) // 2
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias=bias, padding_mode="reflect"
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H / stride, W / stride)."""
        size = self.kernel_size[0], self.stride[0]
        if size == (3, 1):
            return convolve_3x3(x, self.weight, self.bias, "reflect")
        if size == (7, 1) and self.out_channels <= FEW_CHANNELS:
            return convolve_to_few(x, self.weight, self.bias)
        margin = (self.kernel_size[0] - self.stride[0] + 1) // 2
        around = padded(x, margin, margin, "reflect")
        return F.conv2d(around, self.weight, self.bias, self.stride)


def initialise_fan_in(network: nn.Module) -> None:
    """Initialise every convolution and linear layer: Kaiming-normal, fan-in, with the ReLU gain [1]; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_halvings(image_size: int, smallest: int) -> int:
    """How often a side of `image_size` (a power of two) is halved to reach `smallest`."""
    return int(math.log2(image_size // smallest))
