"""gpu.py correct: the same state, batches and steps on every device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.config import Config
from tunit.data.batching.batches import Batch, make_batch
from tunit.methods.method import Phase
from tunit.methods.state import Optimisers, TrainingState
from tunit.methods.tunit import TUNIT
from tunit.native import SWITCH
from tunit.training.initial_state import new_state

CPU = torch.device("cpu")
# The largest error of weights after two steps in float64. With noise of 1e-14 in every layer's output, weights on a
# CPU differed by at most 5e-12 (G's: optimisers divide small gradients by their own size).
WEIGHTS = 1e-10
NETWORKS = "guide", "generator", "discriminator", "guide_average", "generator_average"


def state_on(config: Config, device: torch.device, dtype: torch.dtype) -> TrainingState:
    """The same new state on every device; biases differ from 0, averages from their networks."""
    state = new_state(config, CPU)
    generator = torch.Generator().manual_seed(7)
    for name, network in state.networks.named().items():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            elif name.endswith("average"):
                parameter.data *= 1 + 0.1 * torch.randn(parameter.shape, generator=generator)
        network.to(device, dtype)
    state.queue = (0.3 * torch.randn(state.queue.shape, generator=generator)).to(device, dtype)
    return state


def batch_on(config: Config, device: torch.device, dtype: torch.dtype, seed: int) -> tuple[Batch, Tensor]:
    """The same batch on every device, and a permutation of its pictures."""
    side, number = config.data.image_size, config.optimisers.batch_size
    generator = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.randn(number, 3, 8, 8, generator=generator), scale_factor=side // 8).tanh()
    x_plus = 0.7 * x.flip(3) + 0.3 * torch.randn(x.shape, generator=generator).tanh()
    batch = make_batch(x.to(device, dtype), x_plus.to(device, dtype), torch.full((number,), -1))
    return batch, torch.randperm(number, generator=generator).to(device)


def steps(state: TrainingState, config: Config, dtype: torch.dtype, seeds: range) -> dict[str, float]:
    """Run joint steps, every second one with R1 (also the first). Returns the losses of all steps.

    Lengths of gradients are left out: rounding changes them more, and the weights after the steps show them.
    """
    found: dict[str, float] = {}
    for i in seeds:
        batch, permutation = batch_on(config, state.queue.device, dtype, i)
        terms = TUNIT.step(state, batch, permutation, Phase(True, True, penalise=i % 2 == 0), config)
        of_losses = {name: value for name, value in terms.items() if "gradient" not in name}
        found |= {f"{name}, step {i}": value.item() for name, value in of_losses.items()}
    return found


@contextmanager
def without_kinks() -> Iterator[None]:
    """Inside, ReLUs are smooth and max-pools are means, so that rounding cannot flip them, here and on the CPU."""
    smooth: dict[str, Any] = {
        "relu": lambda x, inplace=False: F.softplus(x),
        "leaky_relu": lambda x, slope=0.01, inplace=False: slope * x + (1 - slope) * F.softplus(x),
        "max_pool2d": lambda x, side, *args, **kwargs: F.avg_pool2d(x, side),
    }
    # The C code has a ReLU of its own.
    with mock.patch.multiple(F, **smooth), mock.patch.dict(os.environ, {SWITCH: "0"}):
        yield


def outcome(
    state: TrainingState, config: Config, phase: Phase, seed: int = 0
) -> dict[str, dict[str, Tensor]]:
    """The losses of a step with batch `seed`, and the gradient of each network as one vector, in float64 on the CPU.

    With a learning rate of 0 no weight changes within the step. So every loss and gradient belongs to the same
    weights on every device, and optimisers cannot enlarge the differences between them.
    """
    frozen = partial(torch.optim.SGD, lr=0.0)
    trained = {name: state.networks.named()[name] for name in ("guide", "generator", "discriminator")}
    state.optimisers = Optimisers(**{name: frozen(network.parameters()) for name, network in trained.items()})
    batch, permutation = batch_on(config, state.queue.device, state.queue.dtype, seed)
    terms = TUNIT.step(state, batch, permutation, phase, config)
    gradients = {
        name: [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        for name, network in trained.items()
    }
    return {
        "loss": {k: v.detach().cpu().double() for k, v in terms.items() if "gradient" not in k},
        "gradient": {k: torch.cat(v).detach().cpu().double() for k, v in gradients.items() if v},
    }


def weight_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """For each network, the norm of the difference of all its weights, relative to their norm.

    Single tensors are not compared: a bias before a norm has a gradient that is only rounding.
    """
    off = {}
    for name in NETWORKS:
        own, theirs = (
            torch.cat(
                [v.detach().flatten().cpu().double() for k, v in end.items() if k.startswith(f"{name}.")]
            )
            for end in (found, expected)
        )
        off[name] = float((own - theirs).norm() / theirs.norm())
    return off
