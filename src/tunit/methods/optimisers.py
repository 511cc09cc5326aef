"""The optimisers of method section 4, both with L2 (not decoupled) weight decay."""

import math

import torch
from torch import nn

from tunit.config import Config, OptimiserConfig


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


def guide_rate_at(step: int, config: Config) -> float:
    """E's learning rate: while it trains alone a warm-up, then a cosine [1] from guide_only_rate to guide_rate.

    [1] Loshchilov, Hutter. SGDR: stochastic gradient descent with warm restarts, ICLR 2017.
    """
    settings, until = config.optimisers, config.schedule.guide_only_until
    if step >= until or not settings.guide_only_rate:
        return settings.guide_rate
    fallen = (
        settings.guide_rate
        + (settings.guide_only_rate - settings.guide_rate) * (1 + math.cos(math.pi * step / until)) / 2
    )
    return fallen * min(1.0, (step + 1) / (settings.guide_warm_up + 1))
