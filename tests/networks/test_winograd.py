"""Winograd's convolution, compared with PyTorch's in float64: values, gradients, and gradients of gradients."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit import native
from tunit.methods.losses import r1_penalty
from tunit.networks import winograd
from tunit.networks.gradients import gradients_of_inputs_only
from tunit.networks.layers import Conv3x3
from tunit.networks.winograd import convolve, is_worth_it

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off"),
]
EDGES = ("zeros", "replicate", "reflect")
# Pictures, input channels, output channels, height and width; not all are multiples of the block sizes.
SHAPES = [(3, 32, 48, 8, 12), (8, 96, 80, 12, 4), (5, 64, 64, 16, 16), (16, 32, 32, 4, 4)]
# More channels, more tiles of all pictures, and more tiles of one picture than fit into one block.
LARGE = [(2, 32, 272, 12, 12), (70, 144, 32, 8, 8), (3, 144, 48, 56, 56)]


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, edge: str) -> Tensor:
    if edge == "zeros":
        return F.conv2d(x, weight, bias, padding=1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=edge), weight, bias)


def draw(shape: tuple[int, ...]) -> list[Tensor]:
    """A picture, kernels and a bias; then directions for the output, the picture and the kernels."""
    torch.manual_seed(sum(shape))
    batch, channels, kernels, height, width = shape
    x, weight = torch.randn(batch, channels, height, width), torch.randn(kernels, channels, 3, 3)
    weight /= (9 * channels) ** 0.5
    return [
        x,
        weight,
        torch.randn(kernels),
        torch.randn(batch, kernels, height, width),
        torch.randn_like(x),
        torch.randn_like(weight),
    ]


def everything(function, values: list[Tensor], edge: str) -> dict[str, Tensor]:
    """The output, its gradients, and the gradients of the gradients for the picture and for the kernels."""
    x, weight, bias, dy, ddx, ddw = (value.clone().requires_grad_() for value in values)
    y = function(x, weight, bias, edge)
    found = {"y": y.detach()}
    names = ("dx", "dw", "db")
    found |= zip(
        names, torch.autograd.grad(y, (x, weight, bias), dy.detach(), retain_graph=True), strict=True
    )
    dx, dw = torch.autograd.grad(y, (x, weight), dy, create_graph=True)
    found |= zip(
        ("dx'dy", "dx'w"), torch.autograd.grad(dx, (dy, weight), ddx, retain_graph=True), strict=True
    )
    found |= zip(("dw'x", "dw'dy"), torch.autograd.grad(dw, (x, dy), ddw), strict=True)
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        error = (found[name].double() - value).abs().max() / value.abs().max()
        assert error < 3e-5, name  # float32, with sums up to 100 times as large as the result


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_values_and_all_gradients_equal_those_of_the_convolution(shape, edge):
    values = draw(shape)
    assert is_worth_it(values[0], values[1], edge)
    found = everything(convolve, values, edge)
    assert_close(found, everything(plain, [value.double() for value in values], edge))


@pytest.mark.parametrize("shape", LARGE)
def test_the_number_of_threads_does_not_change_a_single_bit(shape):
    values = draw(shape)
    alone = everything(convolve, values, "zeros")
    torch.set_num_threads(3)
    found = everything(convolve, values, "zeros")
    for name in alone:
        assert torch.equal(found[name], alone[name]), name


def test_the_layout_of_the_input_does_not_matter():
    values = draw(SHAPES[0])
    last = [v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for v in values]
    assert_close(
        everything(convolve, last, "zeros"),
        {name: v.double() for name, v in everything(convolve, values, "zeros").items()},
    )
    assert convolve(*last[:3], "zeros").is_contiguous(memory_format=torch.channels_last)


def test_the_default_dtype_does_not_matter(monkeypatch, default_float64):
    """The workspace is kept for later calls, whose default may be another one."""
    monkeypatch.setattr(winograd, "_kept", threading.local())
    values = [value.float() for value in draw(SHAPES[0])]
    assert_close(
        {"y": convolve(*values[:3], "zeros")}, {"y": plain(*(v.double() for v in values[:3]), "zeros")}
    )


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(8, 64, 16, 16), torch.zeros(64, 64, 4, 4)),
        (torch.zeros(8, 64, 8, 8), torch.zeros(64, 64, 3, 4)),
        (torch.zeros(8, 16, 8, 8), torch.zeros(64, 16, 3, 3)),  # few channels
        (torch.zeros(8, 64, 8, 8), torch.zeros(40, 64, 3, 3)),  # an odd number of them
        (torch.zeros(8, 64, 8, 6), torch.zeros(64, 64, 3, 3)),  # not a multiple of the tile size
        (torch.zeros(7, 64, 4, 4), torch.zeros(64, 64, 3, 3)),  # few tiles
        (torch.zeros(8, 64, 8, 8), torch.zeros(64, 64, 1, 1)),
        (torch.zeros(8, 64, 8, 8).double(), torch.zeros(64, 64, 3, 3).double()),
        (torch.zeros(8, 64, 8, 8, device="meta"), torch.zeros(64, 64, 3, 3, device="meta")),
    ],
)
def test_other_convolutions_are_left_to_pytorch(x, weight):
    assert not is_worth_it(x, weight, "reflect")


def test_gradients_of_kernels_and_biases_are_not_computed_if_not_needed():
    x, weight, bias = (value.requires_grad_() for value in draw(SHAPES[0])[:3])
    y = convolve(x, weight, bias, "zeros").square().sum()
    with gradients_of_inputs_only():
        dx, dw, db = torch.autograd.grad(y, (x, weight, bias), create_graph=True, allow_unused=True)
    assert dw is None
    assert db is None
    assert dx.requires_grad
    dx.sum().backward()
    assert weight.grad is not None


def test_the_gradient_penalty_trains_all_kernels_as_in_float64():
    torch.manual_seed(0)
    # A smooth function: with a threshold, rounding would move some pixels to its other side.
    judge = nn.Sequential(Conv3x3(3, 32), nn.Softplus(), Conv3x3(32, 64), nn.Softplus(), Conv3x3(64, 32))
    x = torch.randn(4, 3, 16, 16)
    gradients = []
    for kind in (torch.float32, torch.float64):
        judge.to(kind).zero_grad()
        real = x.to(kind).requires_grad_()
        logit = judge(real).mean((1, 2, 3))
        (1e4 * r1_penalty(logit, real) + logit.mean()).backward()
        gradients.append({name: p.grad.double() for name, p in judge.named_parameters()})
    for name, exact in gradients[1].items():
        assert (gradients[0][name] - exact).norm() <= 2e-5 * exact.norm(), name
