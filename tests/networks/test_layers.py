"""The shared layers against their formulas, spelt out in numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.layers import (
    ReflectConv2d,
    adaptive_instance_norm,
    count_halvings,
    initialise_fan_in,
    instance_norm,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def literal_adain(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    out = np.empty(x.shape)
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            plane = x[b, c].numpy()
            variance = np.mean((plane - plane.mean()) ** 2)
            normal = (plane - plane.mean()) / np.sqrt(variance + 1e-5)
            out[b, c] = scale[b, c].item() * normal + shift[b, c].item()
    return torch.from_numpy(out)


LAYOUTS = {
    "contiguous": lambda: noise(3, 5, 6, 4),
    "channels last": lambda: noise(3, 5, 6, 4).contiguous(memory_format=torch.channels_last),
    "transposed": lambda: noise(3, 5, 4, 6).transpose(2, 3),
    "strided": lambda: noise(6, 5, 6, 8)[::2, :, :, 1::2],
    "expanded": lambda: noise(1, 5, 6, 4).expand(3, 5, 6, 4),
    "one picture, channels last": lambda: noise(1, 5, 6, 4).contiguous(memory_format=torch.channels_last),
    "one channel": lambda: noise(3, 1, 6, 4).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adain_is_scale_times_the_normalised_plus_shift(layout: str) -> None:
    x = 0.1 + 2 * LAYOUTS[layout]()
    shift, scale = noise(*x.shape[:2], seed=1), noise(*x.shape[:2], seed=2)
    torch.testing.assert_close(
        adaptive_instance_norm(x, shift, scale).contiguous(),
        literal_adain(x, shift, scale),
        atol=1e-12,
        rtol=0,
    )


def test_adain_takes_slices_of_one_table_of_parameters() -> None:
    x, table = noise(2, 4, 3, 3), noise(2, 20, seed=1)
    shift, scale = table[:, 3:7], table[:, 9:13]
    expected = literal_adain(x, shift, scale)
    torch.testing.assert_close(adaptive_instance_norm(x, shift, scale), expected, atol=1e-12, rtol=0)


def test_the_epsilon_shows_where_the_variance_is_small() -> None:
    x = 1e-3 * noise(1, 1, 4, 4)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    expected = literal_adain(x, zero, one)
    assert expected.std() < 0.5  # far from 1: a wrong epsilon would show
    torch.testing.assert_close(instance_norm(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(adaptive_instance_norm(x, zero, one), expected, atol=1e-12, rtol=0)


def test_adain_with_scale_one_and_shift_zero_is_instance_norm() -> None:
    x = noise(2, 3, 8, 8)
    one, zero = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(adaptive_instance_norm(x, zero, one), instance_norm(x), atol=1e-12, rtol=0)


def test_adain_gradients_are_those_of_finite_differences() -> None:
    inputs = [t.requires_grad_() for t in (noise(2, 3, 3, 2), noise(2, 3, seed=1), noise(2, 3, seed=2))]
    assert torch.autograd.gradcheck(adaptive_instance_norm, inputs)


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
        # The sample deviation of n normal draws is within 1 / sqrt(2 n) of the truth, relatively: 5 of those.
        tolerance = 5 / (2 * weight.numel()) ** 0.5
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance)
        assert abs(weight.mean().item()) < 5 * (2 / fan_in / weight.numel()) ** 0.5
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize(
    ("size", "smallest", "count"), [(32, 16, 1), (64, 16, 2), (128, 4, 5), (256, 4, 6), (16, 16, 0)]
)
def test_count_halvings(size: int, smallest: int, count: int) -> None:
    assert count_halvings(size, smallest) == count
