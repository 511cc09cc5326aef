"""Instance norm and AdaIN: their formula, spelt out in numpy, and compiled against PyTorch in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tunit import native
from tunit.networks.instance_norm import adaptive_instance_norm, instance_norm

pytestmark = pytest.mark.usefixtures("one_thread")
compiled = pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off")


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


def test_relu_comes_after_the_shift() -> None:
    x, shift, scale = noise(2, 3, 6, 4), noise(2, 3, seed=1), noise(2, 3, seed=2)
    expected = literal_adain(x, shift, scale).clamp(min=0)
    assert 0.2 < (expected == 0).double().mean() < 0.8
    torch.testing.assert_close(
        adaptive_instance_norm(x, shift, scale, relu=True), expected, atol=1e-12, rtol=0
    )
    zero, one = torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    expected = literal_adain(x, zero, one).clamp(min=0)
    torch.testing.assert_close(instance_norm(x, relu=True), expected, atol=1e-12, rtol=0)


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


def everything(kind: torch.dtype, shape: tuple[int, ...], relu: bool) -> list[Tensor]:
    """The output, and its gradients; x lies far from 0, where sums of squares would round."""
    x = (30 + 2 * noise(*shape)).to(kind).requires_grad_()
    table = noise(shape[0], 2 * shape[1], seed=1).to(kind).requires_grad_()
    shift, scale = table.chunk(2, dim=1)
    y = adaptive_instance_norm(x, shift, scale, relu=relu)
    return [y.detach(), *torch.autograd.grad(y, (x, table), noise(*shape, seed=2).to(kind))]


@compiled
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(2, 16, 5, 4), (3, 48, 16, 16), (1, 32, 8, 12)])
def test_compiled_adain_and_its_gradients_are_those_of_float64(shape, threads, relu):
    torch.set_num_threads(threads)
    assert native.supports(torch.zeros(shape))
    found, expected = (everything(kind, shape, relu) for kind in (torch.float32, torch.float64))
    for single, exact in zip(found, expected, strict=True):
        assert (single - exact).abs().max() < 1e-5 * exact.abs().max()


@compiled
def test_compiled_instance_norm_is_that_of_float64_with_the_channels_last():
    x = noise(2, 32, 8, 8).float()
    y = instance_norm(x)
    torch.testing.assert_close(y, instance_norm(x.double()).float(), rtol=0, atol=2e-6)
    assert y.is_contiguous(memory_format=torch.channels_last)


@compiled
def test_what_is_no_number_is_not_hidden_by_relu():
    x = torch.randn(2, 16, 4, 4)
    x[1, 3, 2, 2] = torch.nan
    y = instance_norm(x, relu=True)
    assert y[1, 3].isnan().all()
    assert y.isnan().sum() == 16


@compiled
@pytest.mark.parametrize("relu", [False, True])
def test_compiled_gradients_can_be_differentiated_again(relu):
    found = []
    for kind in (torch.float32, torch.float64):
        inputs = [noise(2, 16, 4, 4), noise(2, 32, seed=1), noise(2, 16, 4, 4, seed=2)]
        x, table, dy = (value.to(kind).requires_grad_() for value in inputs)
        y = adaptive_instance_norm(x, *table.chunk(2, dim=1), relu=relu)
        gradients = torch.autograd.grad(y, (x, table), dy, create_graph=True)
        found.append(torch.autograd.grad(sum(g.pow(3).sum() for g in gradients), (x, table, dy)))
    for single, exact in zip(*found, strict=True):
        assert (single - exact).abs().max() < 2e-5 * exact.abs().max()
