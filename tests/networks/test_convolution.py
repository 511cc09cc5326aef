"""The 3 x 3 convolution, whichever way it takes, against PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F

from tunit import native
from tunit.networks import convolution
from tunit.networks.convolution import convolve_3x3

pytestmark = pytest.mark.usefixtures("one_thread")
EDGES = ("zeros", "replicate", "reflect")
SHAPES = {
    "Winograd": (4, 32, 48, 8, 8),
    "matrix": (4, 32, 8, 2, 2),
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
def test_it_and_its_gradients_are_those_of_the_convolution(way, edge, compiled, monkeypatch):
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
def test_each_size_takes_its_way(way, monkeypatch):
    taken = []
    for name, found in (("convolve", "Winograd"), ("_convolve_as_matrix", "matrix")):
        monkeypatch.setattr(convolution, name, lambda *_, found=found: taken.append(found))
    convolve_3x3(*draw(SHAPES[way]), "zeros")
    if native.is_there():
        assert taken == ([way] if way in ("Winograd", "matrix") else [])


def test_autocast_is_obeyed_and_the_picture_keeps_its_channels_last():
    x, weight, bias = draw(SHAPES["Winograd"])
    for shape in SHAPES.values():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert convolve_3x3(*draw(shape), "zeros").dtype == torch.bfloat16
    assert convolve_3x3(x, weight, bias, "zeros").is_contiguous(memory_format=torch.channels_last)
