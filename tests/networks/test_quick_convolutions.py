"""Quick convolutions: against torch's own in float64, and whole generators against their quick copies."""

import pytest
import torch
import torch.nn.functional as F

from tunit.networks.funit import FunitGenerator
from tunit.networks.generator import Generator
from tunit.networks.layers import ReflectConv2d
from tunit.networks.quick_convolutions import (
    QuickConvolution,
    QuickReflectConvolution,
    QuickUpConvolution,
    quick_copy_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("side", [(4, 4), (16, 8), (32, 4)])
@pytest.mark.parametrize("channels", [(32, 48), (40, 32)])
def test_winograd_is_the_convolution(side, channels):
    torch.manual_seed(0)
    x = torch.randn(3, channels[0], side[0] + 2, side[1] + 2, dtype=torch.float64)
    weight = torch.randn(channels[1], channels[0], 3, 3, dtype=torch.float64)
    bias = torch.randn(channels[1], dtype=torch.float64)
    quick = QuickConvolution(weight, bias)
    assert quick.quick
    torch.testing.assert_close(quick(x), F.conv2d(x, weight, bias), rtol=0, atol=1e-10)


def test_winograd_in_float32_keeps_far_below_a_grey_level():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 18, 18).relu()
    weight = torch.randn(64, 64, 3, 3) / 24  # outputs with variance of about 0.5
    y = QuickConvolution(weight, torch.zeros(64))(x)
    exact = F.conv2d(x.double(), weight.double())
    assert (y - exact).abs().max() < 5e-5


@pytest.mark.parametrize(("channels", "side"), [((8, 64), 8), ((64, 8), 8), ((64, 64), 6)])
def test_few_channels_and_other_sides_are_convolved_as_usual(channels, side):
    torch.manual_seed(0)
    x, weight = torch.randn(2, channels[0], side + 2, side + 2), torch.randn(channels[1], channels[0], 3, 3)
    bias = torch.randn(channels[1])
    assert torch.equal(QuickConvolution(weight, bias)(x), F.conv2d(x, weight, bias))


@pytest.mark.parametrize("channels", [(32, 32), (3, 5)])
def test_reflection(channels):
    torch.manual_seed(0)
    conv = ReflectConv2d(*channels, 3).double()
    x = torch.randn(2, channels[0], 8, 12, dtype=torch.float64)
    torch.testing.assert_close(QuickReflectConvolution(conv)(x), conv(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("channels", [(32, 32), (3, 5)])
@pytest.mark.parametrize("side", [(2, 3), (4, 4), (8, 12)])
def test_up_sampling_is_the_same_to_the_very_edge(channels, side):
    torch.manual_seed(0)
    conv = ReflectConv2d(*channels, 5).double()
    x = torch.randn(2, channels[0], *side, dtype=torch.float64)
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(QuickUpConvolution(conv)(x), conv(doubled), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [Generator, FunitGenerator])
def test_a_whole_generator_draws_the_same(kind):
    torch.manual_seed(0)
    generator = kind(64, width=16, style_width=8).double().eval()
    quick = quick_copy_of(generator)
    x, s = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 2 - 1, torch.randn(2, 8, dtype=torch.float64)
    with torch.inference_mode():
        expected, y = generator(x, s), quick(x, s)
    assert expected.std() > 0.05
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)


def test_in_float32_a_whole_generator_is_as_exact_as_the_usual_way_but_for_a_hundredth_of_a_grey_level():
    torch.manual_seed(0)
    generator = Generator(32, width=32).eval()
    x, s = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 128)
    with torch.inference_mode():
        y, exact = quick_copy_of(generator)(x, s), generator.double()(x.double(), s.double())
    assert (y - exact).abs().max() * 127.5 < 0.01


def test_the_generator_itself_stays_as_it_was():
    generator = Generator(32, width=32)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    quick_copy_of(generator)
    assert {name: torch.equal(value, before[name]) for name, value in generator.state_dict().items()} == (
        dict.fromkeys(before, True)
    )
    assert all(parameter.requires_grad for parameter in generator.parameters())
