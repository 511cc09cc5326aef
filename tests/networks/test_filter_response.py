"""Filter response normalisation: its formula, and the compiled code compared with PyTorch in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tunit import native
from tunit.networks import filter_response
from tunit.networks.filter_response import FilterResponseNorm
from tunit.networks.gradients import gradients_of_inputs_only

pytestmark = pytest.mark.usefixtures("one_thread")
compiled = pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_equals_its_formula():
    layer = FilterResponseNorm(3).double()
    x = noise(2, 3, 5, 4)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(noise(3, seed=10 + seed))
    out = layer(x).detach().numpy()
    for b in range(2):
        for c in range(3):
            plane = x[b, c].numpy()
            normal = plane / np.sqrt(np.mean(plane**2) + 1e-6)
            y = layer.gamma[c].item() * normal + layer.beta[c].item()
            np.testing.assert_allclose(out[b, c], np.maximum(y, layer.tau[c].item()), atol=1e-13)


def test_it_starts_as_a_normalised_relu():
    layer = FilterResponseNorm(4)
    assert [p.tolist() for p in (layer.gamma, layer.beta, layer.tau)] == [[1.0] * 4, [0.0] * 4, [0.0] * 4]
    x = 1e-3 * noise(1, 4, 4, 4)  # so small that the epsilon matters
    expected = F.relu(x / (x.square().mean((2, 3), keepdim=True) + 1e-6).sqrt())
    torch.testing.assert_close(layer.double()(x), expected, atol=1e-12, rtol=0)


def test_it_has_second_derivatives():
    """R1 differentiates D twice."""
    layer = FilterResponseNorm(2).double()
    layer.tau.data.fill_(-10.0)  # away from the threshold
    assert torch.autograd.gradgradcheck(layer, [noise(1, 2, 3, 2).requires_grad_()])


def layer_and_pictures(shape: tuple[int, ...]) -> tuple[FilterResponseNorm, list[Tensor]]:
    """A layer whose threshold passes half of the values; a picture, and directions for the output and the picture."""
    layer = FilterResponseNorm(shape[1])
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(noise(shape[1], seed=seed))
    return layer, [noise(*shape, seed=10 + i).float() for i in range(3)]


def everything(layer: FilterResponseNorm, pictures: list[Tensor], kind: torch.dtype) -> dict[str, Tensor]:
    """The output, its gradients, and the gradients of the picture's gradient, as R1 needs them."""
    layer.to(kind)
    x, dy, ddx = (value.to(kind).requires_grad_() for value in pictures)
    parameters = dict(layer.named_parameters())
    y = layer(x)
    gradients = torch.autograd.grad(y, (x, *parameters.values()), dy, retain_graph=True)
    with gradients_of_inputs_only():
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
    twice = torch.autograd.grad(dx, (x, dy, layer.gamma), ddx)
    names = ["y", "x", *parameters, "dx'x", "dx'dy", "dx'gamma"]
    return dict(zip(names, (y.detach(), *gradients, *twice), strict=True))


@compiled
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(2, 16, 5, 4), (3, 48, 16, 16), (1, 32, 8, 12)])
def test_compiled_values_and_gradients_equal_float64(shape, threads):
    layer, pictures = layer_and_pictures(shape)
    torch.set_num_threads(threads)
    assert native.supports(pictures[0])
    found = everything(layer, pictures, torch.float32)
    for name, exact in everything(layer, pictures, torch.float64).items():
        assert (found[name].double() - exact).abs().max() < 2e-6 * exact.abs().max(), name


@compiled
def test_compiled_gradients_can_be_differentiated_again():
    layer, (x, dy, ddx) = layer_and_pictures((2, 16, 4, 4))
    found = []
    for kind in (torch.float32, torch.float64):
        layer.to(kind)
        x, dy, ddx = (value.detach().to(kind).requires_grad_() for value in (x, dy, ddx))
        parameters = list(layer.parameters())
        gradients = torch.autograd.grad(layer(x), (x, *parameters), dy, create_graph=True)
        total = (gradients[0] * ddx).sum() + sum(g.square().sum() for g in gradients[1:])
        found.append(torch.autograd.grad(total, (x, dy, layer.gamma)))
    for single, exact in zip(*found, strict=True):
        assert (single - exact).abs().max() < 2e-5 * exact.abs().max()


@compiled
def test_compiled_nan_is_not_hidden_by_the_threshold():
    layer, (x, dy, _) = layer_and_pictures((2, 16, 4, 4))
    x[1, 3, 2, 2] = torch.nan
    x.requires_grad_()
    y = layer(x)
    assert y[1, 3].isnan().all()
    assert y.isnan().sum() == 16
    (dx,) = torch.autograd.grad(y, x, dy)
    assert dx[1, 3].isnan().all()


@compiled
def test_the_layout_stays_channels_last_with_and_without_compiled_code():
    layer, (x, _, _) = layer_and_pictures((2, 16, 4, 4))
    last = x.contiguous(memory_format=torch.channels_last)
    assert layer(last).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), layer(last), rtol=0, atol=0)


def test_without_compiled_code_pytorch_is_used(monkeypatch):
    layer, (x, _, _) = layer_and_pictures((2, 16, 4, 4))
    monkeypatch.setattr(native, "_library", lambda: None)
    expected = filter_response.reference(x, layer.gamma, layer.beta - layer.tau, layer.tau)
    assert torch.equal(layer(x), expected)
