"""RMSprop and Adam in one pass: the updates and states of PyTorch's own."""

import copy

import pytest
import torch
from torch import nn

from tunit import native
from tunit.training.optimisers import Adam, RMSprop

pytestmark = pytest.mark.skipif(
    not native.is_there(), reason="no C compiler was there when tunit was installed"
)
KINDS = [
    (RMSprop, torch.optim.RMSprop, {"lr": 3e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
    (Adam, torch.optim.Adam, {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
]
each_kind = pytest.mark.parametrize(("kind", "of_pytorch", "settings"), KINDS)


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


@each_kind
def test_steps_and_states_are_those_of_pytorch(kind, of_pytorch, settings, monkeypatch):
    layers, others = networks()
    ours, theirs = kind(layers.parameters(), **settings), of_pytorch(others.parameters(), **settings)
    with monkeypatch.context() as patched:
        patched.setattr(of_pytorch, "step", None)  # none of these steps may be PyTorch's
        take_steps(layers, ours, 0)
    take_steps(others, theirs, 0)
    assert_alike(ours, theirs)


@each_kind
@pytest.mark.parametrize("first_ours", [True, False])
def test_either_goes_on_with_the_state_of_the_other(kind, of_pytorch, settings, first_ours):
    layers, others = networks()
    kinds = (kind, of_pytorch) if first_ours else (of_pytorch, kind)
    whole, first = (kinds[0](n.parameters(), **settings) for n in (layers, others))
    take_steps(layers, whole, 0, 6)
    take_steps(others, first, 0)
    second = kinds[1](others.parameters(), **settings)
    second.load_state_dict(first.state_dict())
    take_steps(others, second, 3)
    assert_alike(second, whole)


@each_kind
def test_float64_is_left_to_pytorch(kind, of_pytorch, settings):
    layers, others = networks()
    layers.double()
    others.double()
    ours, theirs = kind(layers.parameters(), **settings), of_pytorch(others.parameters(), **settings)
    for step, network in ((ours.step, layers), (theirs.step, others)):
        network(torch.ones(2, 3, 4, 4, dtype=torch.float64)).sum().backward()
        step()
    for a, b in zip(layers.parameters(), others.parameters(), strict=True):
        assert torch.equal(a, b)
