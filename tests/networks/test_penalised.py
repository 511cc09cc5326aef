"""Convolutions of a GPU that R1 differentiates twice, on a CPU in float64 and on a device without values."""

import contextlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_run import tiny_config
from tunit.config import Config, read_config
from tunit.data.batching.batches import make_batch
from tunit.methods.losses import r1_penalty
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.networks import penalised
from tunit.networks.discriminator import Discriminator
from tunit.networks.funit_networks import PatchDiscriminator
from tunit.networks.gradients import gradients_of_inputs_only
from tunit.networks.penalised import Convolution, second_gradients_by_pytorch
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.usefixtures("one_thread")
META = torch.device("meta")
SHAPES = {"3 x 3": (2, 3, 4, 5, 6, 3), "1 x 1": (2, 3, 4, 5, 4, 1), "7 x 7": (1, 2, 3, 8, 9, 7)}


def values_of(shape: tuple[int, ...]) -> list[Tensor]:
    """A picture, kernels and a bias that require gradients."""
    batch, channels, kernels, height, width, side = shape
    torch.manual_seed(0)
    values = [
        torch.randn(size, dtype=torch.float64)
        for size in ((batch, channels, height, width), (kernels, channels, side, side), (kernels,))
    ]
    return [value.requires_grad_() for value in values]


def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use it on the CPU as well."""
    monkeypatch.setattr(
        penalised, "uses_own_gradients", lambda x: torch.is_grad_enabled() and not penalised._by_pytorch
    )


@pytest.mark.parametrize("name", SHAPES)
def test_first_and_second_derivatives_equal_pytorchs(name: str) -> None:
    values, padding = values_of(SHAPES[name]), SHAPES[name][-1] // 2
    found = []
    for function in (Convolution.apply, lambda x, w, b, padding: F.conv2d(x, w, b, padding=padding)):
        y = function(*values, padding)
        gradients = torch.autograd.grad(y.square().sum(), values, create_graph=True)
        twice = torch.autograd.grad(sum(g.square().sum() for g in gradients), values)
        found.append([y, *gradients, *twice])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12 * theirs.abs().max().item())


@pytest.mark.parametrize("name", ["3 x 3", "1 x 1"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_and_gradients_of_gradients_are_those_of_small_changes(
    name: str, layout: torch.memory_format
) -> None:
    values, padding = values_of((1, 2, 2, 3, 4, SHAPES[name][-1])), SHAPES[name][-1] // 2

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return Convolution.apply(x.contiguous(memory_format=layout), weight, bias, padding)

    assert torch.autograd.gradcheck(function, values)
    assert torch.autograd.gradgradcheck(function, values)


def test_only_pictures_get_gradients_that_can_be_differentiated_if_asked_for() -> None:
    x, weight, bias = values_of(SHAPES["3 x 3"])
    y = Convolution.apply(x, weight, bias, 1).square().sum()
    with Called() as called, gradients_of_inputs_only():
        (dx,) = torch.autograd.grad(y, x, create_graph=True)
    assert called.backward == 0
    with Called() as called:
        dx.square().sum().backward()
    assert called.backward == 2  # of the gradient of x, and of the convolution
    assert weight.grad is not None


@pytest.mark.parametrize("kind", [Discriminator, PatchDiscriminator])
def test_the_gradient_of_r1_equals_pytorchs(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere(monkeypatch)
    torch.manual_seed(0)
    discriminator, found = kind(32, 3, width=4).double(), []
    for by_pytorch in (False, True):
        discriminator.zero_grad()
        torch.manual_seed(1)
        x = torch.randn(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
        with second_gradients_by_pytorch() if by_pytorch else contextlib.nullcontext():
            logit = discriminator.judge(x, torch.tensor([0, 2]))
            (logit.sum() + r1_penalty(logit, x)).backward()
        found.append([p.grad.clone() for p in discriminator.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


class Called(TorchDispatchMode):
    """The largest side of a kernel, and the number of backward passes of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.side = self.backward = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.side = max(self.side, *args[1].shape[2:])
        if func is torch.ops.aten.convolution_backward.default:
            self.side = max(self.side, *args[2].shape[2:])
            self.backward += 1
        return func(*args, **(kwargs or {}))


def largest_kernel(config: Config) -> int:
    """The largest side of a kernel in a joint step with R1."""
    state, side = new_state(config, META, 8), config.data.image_size
    x = torch.empty(4, 3, side, side, device=META)
    batch = make_batch(x, x.clone(), torch.arange(4) % 3)
    with Called() as called:
        phase = Phase(joint=True, average_generator=True, penalise=True)
        method_of(config).step(state, batch, torch.arange(4, device=META), phase, config)
    return called.side


@pytest.mark.parametrize("preset", ["paper", "table1-a"])
def test_no_kernel_of_a_joint_step_with_r1_is_as_large_as_a_picture(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    config = tiny_config(image_size=64) if preset == "paper" else baseline(preset)
    with second_gradients_by_pytorch():
        assert largest_kernel(config) == 64
    assert largest_kernel(config) == 7  # of G's first and last layer


def baseline(preset: str) -> Config:
    sizes = {"image_size": 64, "domains": 3, "style_width": 5, "batch_size": 4}
    widths = {"guide_width": 2, "generator_width": 2, "discriminator_width": 2}
    return read_config(preset).with_overrides(sizes | widths | {"precision": "float32"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_with_autocast_and_on_a_cpu_pytorch_convolves() -> None:
    x = torch.zeros(1, 3, 4, 4, device="cuda")
    assert penalised.uses_own_gradients(x)
    with torch.autocast("cuda", torch.bfloat16):
        assert not penalised.uses_own_gradients(x)


def test_on_a_cpu_without_gradients_and_if_asked_for_pytorch_convolves() -> None:
    x = torch.zeros(1, 3, 4, 4, device=META)
    assert penalised.uses_own_gradients(x)
    assert not penalised.uses_own_gradients(torch.zeros(1, 3, 4, 4))
    with torch.no_grad():
        assert not penalised.uses_own_gradients(x)
    with second_gradients_by_pytorch():
        assert not penalised.uses_own_gradients(x)
