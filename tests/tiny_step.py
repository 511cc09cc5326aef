"""Tiny networks in float64, batches for them, and what a step begins with."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.config import Config
from tunit.data.batches import Batch, make_batch
from tunit.methods.state import TrainingState
from tunit.training.initial_state import new_state

SMALL = {
    "image_size": 32,
    "domains": 3,
    "style_width": 16,
    "guide_width": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "queue_length": 10,
    # Quick enough that one step's changes show in the next losses.
    "guide_rate": 1e-3,
    "generator_rate": 5e-4,
    "discriminator_rate": 2e-4,
    "average_decay": 0.9,
    # At the paper's 0.07 the codes of a fresh E hardly differ: more of the style loss shows at 0.02.
    "temperature": 0.02,
    "head_std": 0.3,
    "precision": "float32",  # that is, as the tensors are
}


def config_of(**overrides: Any) -> Config:
    return Config().with_overrides(SMALL | overrides)


def random_state(config: Config, dtype: torch.dtype = torch.float64) -> TrainingState:
    """A fresh state whose averages differ from their networks, and whose queue is full of codes."""
    state = new_state(config, torch.device("cpu"))
    torch.manual_seed(7)
    for name, network in state.networks.named().items():
        network.to(dtype)
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
            elif name.endswith("average"):
                parameter.data *= 1 + 0.1 * torch.randn_like(parameter)
    state.queue = 0.3 * torch.randn(state.queue.shape).to(dtype)
    return state


def random_batch(seed: int, y: list[int], dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor]:
    """A batch and a permutation; x+ are blends of x with noise."""
    g = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.randn(len(y), 3, 8, 8, generator=g), scale_factor=4).tanh().to(dtype)
    x_plus = 0.7 * x.flip(3) + 0.3 * torch.randn(x.shape, generator=g).tanh().to(dtype)
    return make_batch(x, x_plus, torch.tensor(y)), torch.randperm(len(y), generator=g)
