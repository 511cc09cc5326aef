"""The convolutions, in each implementation, compared with PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F

from tunit import native
from tunit.networks import convolution
from tunit.networks.convolution import convolve_3x3, convolve_to_few

pytestmark = pytest.mark.usefixtures("one_thread")
EDGES = ("zeros", "replicate", "reflect")
SHAPES = {
    "Winograd": (4, 32, 48, 8, 8),
    "matrix": (4, 32, 48, 2, 2),
    "2 x 2": (4, 32, 8, 2, 2),
    "PyTorch, odd sides": (4, 32, 48, 9, 12),
    "PyTorch, few channels": (4, 3, 48, 8, 8),
}


def plain(x, weight, bias, edge):
    if edge == "zeros":
        return F.conv2d(x, weight, bias, padding=1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=edge), weight, bias)


def draw(shape):
    torch.manual_seed(sum(shape))
    batch, channels, kernels, height, width = shape
    x, weight = torch.randn(batch, channels, height, width), torch.randn(kernels, channels, 3, 3)
    return x, weight / (9 * channels) ** 0.5, torch.randn(kernels)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("way", SHAPES)
@pytest.mark.parametrize("compiled", [True, False])
def test_values_and_gradients_equal_those_of_the_plain_convolution(way, edge, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "_library", lambda: None)
    values = draw(SHAPES[way])
    found = []
    for function, kind in ((convolve_3x3, torch.float32), (plain, torch.float64)):
        inputs = [value.to(kind).requires_grad_() for value in values]
        y = function(*inputs, edge)
        found.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for single, exact in zip(*found, strict=True):
        assert (single - exact).abs().max() < 3e-5 * exact.abs().max()


@pytest.mark.parametrize("way", SHAPES)
def test_each_size_uses_its_implementation(way, monkeypatch):
    taken = []
    for name, found in (
        ("convolve", "Winograd"),
        ("_convolve_as_matrix", "matrix"),
        ("_convolve_2x2", "2 x 2"),
    ):
        monkeypatch.setattr(convolution, name, lambda *_, found=found: taken.append(found))
    convolve_3x3(*draw(SHAPES[way]), "zeros")
    if native.is_available():
        assert taken == ([] if way.startswith("PyTorch") else [way])


def assert_close(function, plain, values):
    """The function in float32 and its first and second derivatives equal those of the plain one in float64."""
    found = []
    for kind, convolve in ((torch.float32, function), (torch.float64, plain)):
        inputs = [value.to(kind).requires_grad_() for value in values]
        y = convolve(*inputs)
        gradients = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        twice = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
        found.append([y, *gradients, *twice])
    for single, exact in zip(*found, strict=True):
        assert (single - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("shape", [(2, 16, 3, 9, 8), (1, 5, 1, 4, 12)])
def test_convolutions_to_few_channels(side, shape):
    torch.manual_seed(0)
    batch, channels, kernels, height, width = shape
    weight, reach = torch.randn(kernels, channels, side, side) / side / channels**0.5, side // 2
    assert_close(
        convolve_to_few,
        lambda x, w, b: F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), w, b),
        (torch.randn(batch, channels, height, width), weight, torch.randn(kernels)),
    )
    x = torch.randn(batch, channels, height, width)
    torch.testing.assert_close(
        convolve_to_few(x, weight, None) + 1, convolve_to_few(x, weight, torch.ones(kernels))
    )


def test_autocast_is_followed_and_the_result_stays_channels_last():
    x, weight, bias = draw(SHAPES["Winograd"])
    for shape in SHAPES.values():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert convolve_3x3(*draw(shape), "zeros").dtype == torch.bfloat16
    assert convolve_3x3(x, weight, bias, "zeros").is_contiguous(memory_format=torch.channels_last)
