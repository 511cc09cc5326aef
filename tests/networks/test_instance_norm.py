"""Instance norm and AdaIN: their formula, written out in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tunit.networks.instance_norm import adaptive_instance_norm, instance_norm

pytestmark = pytest.mark.usefixtures("one_thread")


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
def test_adain_is_scale_times_normalised_plus_shift(layout: str) -> None:
    x = 0.1 + 2 * LAYOUTS[layout]()
    shift, scale = noise(*x.shape[:2], seed=1), noise(*x.shape[:2], seed=2)
    torch.testing.assert_close(
        adaptive_instance_norm(x, shift, scale).contiguous(),
        literal_adain(x, shift, scale),
        atol=1e-12,
        rtol=0,
    )


def test_adain_uses_slices_of_one_tensor_of_parameters() -> None:
    x, table = noise(2, 4, 3, 3), noise(2, 20, seed=1)
    shift, scale = table[:, 3:7], table[:, 9:13]
    expected = literal_adain(x, shift, scale)
    torch.testing.assert_close(adaptive_instance_norm(x, shift, scale), expected, atol=1e-12, rtol=0)


def test_the_epsilon_matters_if_the_variance_is_small() -> None:
    x = 1e-3 * noise(1, 1, 4, 4)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    expected = literal_adain(x, zero, one)
    assert expected.std() < 0.5  # far from 1, so that a wrong epsilon is noticed
    torch.testing.assert_close(instance_norm(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(adaptive_instance_norm(x, zero, one), expected, atol=1e-12, rtol=0)


def test_adain_with_scale_1_and_shift_0_is_instance_norm() -> None:
    x = noise(2, 3, 8, 8)
    one, zero = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(adaptive_instance_norm(x, zero, one), instance_norm(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_equal_the_formulas_for_all_layouts(
    layout: str, gradient_layout: torch.memory_format
) -> None:
    """PyTorch's own norm computes a wrong gradient for a single picture if its layout differs from the gradient's."""
    x = LAYOUTS[layout]().requires_grad_()
    shift, scale = noise(*x.shape[:2], seed=1), noise(*x.shape[:2], seed=2)
    weights = noise(*x.shape, seed=3).contiguous(memory_format=gradient_layout)
    spread = (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    normal = (x - x.mean((2, 3), keepdim=True)) / spread
    (expected,) = torch.autograd.grad((normal * scale[..., None, None] * weights).sum(), x)
    for given, y in (
        (weights, adaptive_instance_norm(x, shift, scale)),
        (weights * scale[..., None, None], instance_norm(x)),
    ):
        (found,) = torch.autograd.grad(y, x, given)
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-9)


def test_adain_gradients_equal_finite_differences() -> None:
    inputs = [t.requires_grad_() for t in (noise(2, 3, 3, 2), noise(2, 3, seed=1), noise(2, 3, seed=2))]
    assert torch.autograd.gradcheck(adaptive_instance_norm, inputs)
