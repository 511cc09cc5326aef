"""RMSprop in one pass: the updates and states of PyTorch's own."""

import copy

import pytest
import torch
from torch import nn

from tunit import native
from tunit.training.rmsprop import RMSprop

pytestmark = pytest.mark.skipif(
    not native.is_there(), reason="no C compiler was there when tunit was installed"
)
SETTINGS = {"lr": 3e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 50, 3), nn.Flatten(), nn.Linear(200, 130), nn.Linear(130, 1))
    layers.to(memory_format=torch.channels_last)
    return layers, copy.deepcopy(layers)


def take_steps(layers: nn.Module, optimiser: torch.optim.Optimizer, first: int, number: int = 3) -> None:
    for step in range(first, first + number):
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        layers(x).sum().backward()
        layers[2].bias.grad = None  # a parameter that has none
        layers[0].weight.grad = layers[
            0
        ].weight.grad.contiguous()  # laid out in another way than the parameter
        optimiser.step()


def assert_alike(ours, theirs) -> None:
    for a, b in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
        assert ours.state[a].keys() == theirs.state[b].keys()
        for name, value in theirs.state[b].items():
            torch.testing.assert_close(ours.state[a][name], value, rtol=1e-6, atol=1e-7)


def test_steps_and_states_are_those_of_pytorch(monkeypatch):
    layers, others = networks()
    ours, theirs = (
        RMSprop(layers.parameters(), **SETTINGS),
        torch.optim.RMSprop(others.parameters(), **SETTINGS),
    )
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.RMSprop, "step", None)  # none of these steps may be PyTorch's
        take_steps(layers, ours, 0)
    take_steps(others, theirs, 0)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("first_ours", [True, False])
def test_either_goes_on_with_the_state_of_the_other(first_ours):
    layers, others = networks()
    kinds = (RMSprop, torch.optim.RMSprop) if first_ours else (torch.optim.RMSprop, RMSprop)
    whole, first = (kinds[0](n.parameters(), **SETTINGS) for n in (layers, others))
    take_steps(layers, whole, 0, 6)
    take_steps(others, first, 0)
    second = kinds[1](others.parameters(), **SETTINGS)
    second.load_state_dict(first.state_dict())
    take_steps(others, second, 3)
    assert_alike(second, whole)


def test_float64_is_left_to_pytorch():
    layers, others = networks()
    layers.double()
    others.double()
    ours, theirs = (
        RMSprop(layers.parameters(), **SETTINGS),
        torch.optim.RMSprop(others.parameters(), **SETTINGS),
    )
    for step, network in ((ours.step, layers), (theirs.step, others)):
        network(torch.ones(2, 3, 4, 4, dtype=torch.float64)).sum().backward()
        step()
    for a, b in zip(layers.parameters(), others.parameters(), strict=True):
        assert torch.equal(a, b)
