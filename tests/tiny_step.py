"""Tiny networks in float64, batches for them, and other things that several tests of steps share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.config import Config
from tunit.data.batching.batches import Batch, make_batch
from tunit.methods.losses import Terms
from tunit.methods.state import TrainingState
from tunit.training.initial_state import new_state
from tunit.training.memory.fitting import activations_and_state

SMALL = {
    "image_size": 32,
    "domains": 3,
    "style_width": 16,
    "guide_width": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "queue_length": 10,
    # Rates so high that a step clearly changes the losses of the next step.
    "guide_rate": 1e-3,
    "generator_rate": 5e-4,
    "discriminator_rate": 2e-4,
    "average_decay": 0.9,
    # A new E's codes hardly differ, so at the paper's 0.07 the style loss would be nearly constant; 0.02 shows more.
    "temperature": 0.02,
    "head_std": 0.3,
    "precision": "float32",  # the same dtype as the tensors
}


# For the baselines, which have no queue and no temperature.
SMALL_BASELINE = {
    "image_size": 32,
    "domains": 3,
    "style_width": 5,
    "guide_width": 2,
    "generator_width": 2,
    "discriminator_width": 2,
    "generator_rate": 5e-4,
    "discriminator_rate": 2e-4,
    "average_decay": 0.9,
}


def config_of(**overrides: Any) -> Config:
    return Config().with_overrides(SMALL | overrides)


def random_state(config: Config, dtype: torch.dtype = torch.float64) -> TrainingState:
    """A new state whose averages differ from their networks, and whose queue is full of codes."""
    state = new_state(config, torch.device("cpu"))
    perturb(state, dtype)
    state.queue = 0.3 * torch.randn(state.queue.shape).to(dtype)
    return state


def perturb(state: TrainingState, dtype: torch.dtype, heads: tuple[str, ...] = ()) -> None:
    """Make averages differ from their networks, biases differ from 0, and the weights named in `heads` large."""
    torch.manual_seed(7)
    for name, network in state.networks.named().items():
        network.to(dtype)
        for key, parameter in network.named_parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
            elif key in heads:
                parameter.data = 0.2 * torch.randn_like(parameter)
            elif name.endswith("average"):
                parameter.data *= 1 + 0.1 * torch.randn_like(parameter)
    if state.adversarial_memory:
        for key, value in vars(state.adversarial_memory).items():
            setattr(state.adversarial_memory, key, value.to(dtype))


def random_batch(seed: int, y: list[int], dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor]:
    """A batch and a permutation; x+ are mixtures of x and noise."""
    g = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.randn(len(y), 3, 8, 8, generator=g), scale_factor=4).tanh().to(dtype)
    x_plus = 0.7 * x.flip(3) + 0.3 * torch.randn(x.shape, generator=g).tanh().to(dtype)
    return make_batch(x, x_plus, torch.tensor(y)), torch.randperm(len(y), generator=g)


def random_second_views(
    seed: int, y: list[int], index: list[int] | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Batch, Tensor]:
    """A batch for the baselines, and a permutation. x is NaN, because the baselines may only use x+."""
    g = torch.Generator().manual_seed(seed)
    x_plus = F.interpolate(torch.randn(len(y), 3, 8, 8, generator=g), scale_factor=4).tanh().to(dtype)
    rows = None if index is None else torch.tensor(index)
    batch = make_batch(torch.full_like(x_plus, torch.nan), x_plus, torch.tensor(y), rows)
    return batch, torch.randperm(len(y), generator=g)


class LiteralNetworks:
    """The five networks of a literal step, with the letters of the paper."""

    E: torch.nn.Module
    E_bar: torch.nn.Module
    G: torch.nn.Module
    G_bar: torch.nn.Module
    D: torch.nn.Module

    def named(self) -> dict[str, torch.nn.Module]:
        return {
            "guide": self.E,
            "guide_average": self.E_bar,
            "generator": self.G,
            "generator_average": self.G_bar,
            "discriminator": self.D,
        }


def assert_bfloat16_is_near(losses_in: Callable[[str], Terms]) -> tuple[dict[str, float], dict[str, float]]:
    """`losses_in` a precision must be float32 tensors and nearly the same in both precisions; returns both as
    numbers.
    """
    found = []
    for precision in ("float32", "bfloat16"):
        terms = losses_in(precision)
        assert {term.dtype for term in terms.values()} == {torch.float32}
        found.append({name: term.item() for name, term in terms.items()})
    full, half = found
    assert full != half  # bfloat16 was really used
    for name, value in full.items():
        assert half[name] == pytest.approx(value, rel=0.1, abs=0.05), name
    return full, half


def step_bytes(config: Config, size: int, *, joint: bool = True) -> int:
    """The bytes that training needs on the CPU, by a step: state, gradients, the peak of kept activations."""
    return sum(activations_and_state(config, size, joint=joint))
