"""The up-sampling convolution, compared with a plain convolution of the up-sampled picture."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.networks.layers import ReflectConv2d
from tunit.networks.upsampling import UpsamplingConv2d, weight_for_small


def plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    large = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return F.conv2d(F.pad(large, (2, 2, 2, 2), mode="reflect"), weight, bias)


@pytest.mark.parametrize(("h", "w"), [(2, 2), (2, 5), (3, 4), (8, 8), (16, 9)])
def test_values_and_gradients_equal_those_of_the_plain_convolution(h: int, w: int) -> None:
    torch.manual_seed(h)
    conv = UpsamplingConv2d(3, 4).double()
    x = torch.randn(2, 3, h, w, dtype=torch.float64, requires_grad=True)
    assert conv.bias is not None
    ours, theirs = conv(x), plain(x, conv.weight, conv.bias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    gradient = torch.randn_like(theirs)
    inputs = (x, conv.weight, conv.bias)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, gradient),
        torch.autograd.grad(theirs, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_has_the_parameters_of_the_plain_convolution() -> None:
    convolutions = (UpsamplingConv2d(3, 4), ReflectConv2d(3, 4, 5))
    ours, plain = ({name: v.shape for name, v in c.state_dict().items()} for c in convolutions)
    assert ours == plain


def test_it_stays_in_bfloat16_under_autocast() -> None:
    torch.manual_seed(0)
    conv, x = UpsamplingConv2d(8, 4), torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), plain(x, conv.weight, conv.bias), rtol=0, atol=0.05)


def test_kept_kernels_are_used_for_inference_only_while_the_weights_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summed = []

    def counted(weight: Tensor, taps: Tensor) -> Tensor:
        summed.append(1)
        return weight_for_small(weight, taps)

    monkeypatch.setattr("tunit.networks.upsampling.weight_for_small", counted)
    torch.manual_seed(0)
    conv, x = UpsamplingConv2d(3, 4), torch.randn(2, 3, 4, 4)
    assert conv.bias is not None
    conv.keep_kernels()
    with torch.inference_mode():
        for times in (1, 1):
            torch.testing.assert_close(conv(x), plain(x, conv.weight, conv.bias), rtol=1e-5, atol=1e-5)
            assert len(summed) == times
    conv(x).sum().backward()  # training needs the gradient of the sums
    assert len(summed) == 2
    assert conv.weight.grad is not None
    with torch.no_grad():
        conv.weight.mul_(2)
        torch.testing.assert_close(conv(x), plain(x, conv.weight, conv.bias), rtol=1e-5, atol=1e-5)
        double = conv.double()
        torch.testing.assert_close(double(x.double()), plain(x.double(), double.weight, double.bias))


def test_weights_made_in_inference_mode_are_never_out_of_date() -> None:
    """PyTorch does not count the changes of such weights, so no kernels can be kept for them."""
    with torch.inference_mode():
        conv, x = UpsamplingConv2d(3, 4), torch.randn(2, 3, 4, 4)
        assert conv.bias is not None
        for _ in range(2):
            conv.keep_kernels()
            conv.weight.mul_(2)
            torch.testing.assert_close(conv(x), plain(x, conv.weight, conv.bias), rtol=1e-5, atol=1e-5)
