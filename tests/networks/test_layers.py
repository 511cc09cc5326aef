"""The shared convolutions and their initialisation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.layers import (
    ReflectConv2d,
    count_halvings,
    initialise_fan_in,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (4, 2)])
@pytest.mark.parametrize("size", [16, 32])
def test_reflect_convolutions_keep_or_halve_the_side(kernel: int, stride: int, size: int) -> None:
    layer = ReflectConv2d(2, 3, kernel, stride)
    assert layer.bias is not None
    assert layer(torch.zeros(1, 2, size, size)).shape == (1, 3, size // stride, size // stride)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (4, 2)])
def test_reflect_convolutions_pad_by_mirroring(kernel: int, stride: int) -> None:
    layer = ReflectConv2d(2, 3, kernel, stride).double()
    x = noise(2, 2, 8, 8)
    pad = {3: 1, 5: 2, 7: 3, 4: 1}[kernel]
    mirrored = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect"))
    expected = F.conv2d(mirrored, layer.weight, layer.bias, stride)
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)


def test_initialisation_is_kaiming_normal_over_the_inputs() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 64, 5), nn.Linear(200, 100), nn.Conv2d(64, 32, 1, bias=False))
    initialise_fan_in(network)
    for layer, fan_in in zip(network, (16 * 25, 200, 64), strict=True):
        weight = layer.weight.detach()
        # The standard deviation of n normal numbers has the relative error 1 / sqrt(2 n); allow five.
        tolerance = 5 / (2 * weight.numel()) ** 0.5
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance)
        assert abs(weight.mean().item()) < 5 * (2 / fan_in / weight.numel()) ** 0.5
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize(
    ("size", "smallest", "count"), [(32, 16, 1), (64, 16, 2), (128, 4, 5), (256, 4, 6), (16, 16, 0)]
)
def test_count_halvings(size: int, smallest: int, count: int) -> None:
    assert count_halvings(size, smallest) == count
