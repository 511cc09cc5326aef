"""The optimisers of method section 4, both with L2 (not decoupled) weight decay."""

import torch
from torch import nn

from tunit.config import OptimiserConfig


def make_rmsprop(network: nn.Module, rate: float, settings: OptimiserConfig) -> torch.optim.RMSprop:
    """RMSprop, as for G and D."""
    return torch.optim.RMSprop(
        network.parameters(),
        lr=rate,
        alpha=settings.rmsprop_alpha,
        eps=settings.rmsprop_eps,
        weight_decay=settings.weight_decay,
        foreach=True,
    )


def make_adam(network: nn.Module, settings: OptimiserConfig) -> torch.optim.Adam:
    """Adam, as for E."""
    return torch.optim.Adam(
        network.parameters(),
        lr=settings.guide_rate,
        betas=settings.guide_betas,
        weight_decay=settings.guide_weight_decay,
        foreach=True,
    )
