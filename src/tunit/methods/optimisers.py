"""TUNIT's optimisers: Adam for E, RMSprop for G and D, all with L2 (not decoupled) weight decay."""

import math
from inspect import unwrap

import torch
from torch import nn
from torch.optim import Optimizer

from tunit.config import Config, OptimiserConfig
from tunit.methods.state import Optimisers


class _Light(Optimizer):
    """PyTorch's optimiser without the wrappers that are only for torch.compile.

    The wrappers import PyTorch's compiler, which takes two seconds. Optimisers are never compiled here, so the
    results are the same.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class RMSprop(_Light, torch.optim.RMSprop):
    """PyTorch's RMSprop without the slow import (see `_Light`)."""

    step = torch.no_grad()(unwrap(torch.optim.RMSprop.step))


class Adam(_Light, torch.optim.Adam):
    """PyTorch's Adam without the slow import (see `_Light`)."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


def make_rmsprop(network: nn.Module, rate: float, settings: OptimiserConfig) -> RMSprop:
    """RMSprop with the settings for G and D."""
    return RMSprop(
        network.parameters(),
        lr=rate,
        alpha=settings.rmsprop_alpha,
        eps=settings.rmsprop_eps,
        weight_decay=settings.weight_decay,
        foreach=True,
    )


def make_adam(network: nn.Module, settings: OptimiserConfig) -> Adam:
    """Adam with the settings for E."""
    return Adam(
        network.parameters(),
        lr=settings.guide_rate,
        betas=settings.guide_betas,
        weight_decay=settings.guide_weight_decay,
        foreach=True,
    )


def guide_rate_at(step: int, config: Config) -> float:
    """E's learning rate. While E trains alone, it falls by a cosine [1] from guide_only_rate to guide_rate; in the
    first guide_warm_up steps it is also multiplied by a factor that rises to 1.

    If guide_only_rate is 0, it is guide_rate, without a warm-up. In joint steps it is joint_guide_rate or, if that is
    0, guide_rate.

    [1] Loshchilov, Hutter. SGDR: stochastic gradient descent with warm restarts, ICLR 2017.
    """
    settings, until = config.optimisers, config.schedule.guide_only_until
    if step >= until:
        return settings.joint_guide_rate or settings.guide_rate
    if not settings.guide_only_rate:
        return settings.guide_rate
    fallen = (
        settings.guide_rate
        + (settings.guide_only_rate - settings.guide_rate) * (1 + math.cos(math.pi * step / until)) / 2
    )
    return fallen * min(1.0, (step + 1) / (settings.guide_warm_up + 1))


def share_of_rate(step: int, config: Config) -> float:
    """The factor on the learning rates of G and D: it rises to 1 over their first `joint_warm_up` steps.

    RMSprop's mean square begins at 0, so without a warm-up its first steps are up to ten times too large.
    """
    risen = (step - config.schedule.guide_only_until + 1) / (config.optimisers.joint_warm_up + 1)
    return min(max(risen, 0.0), 1.0)


def set_rates(optimisers: Optimisers, step: int, config: Config) -> None:
    """Set every optimiser's learning rate for a step. config: after `resolved_schedule`."""
    _set(optimisers, guide_rate_at(step, config), step, config)


def set_rates_of_baseline(optimisers: Optimisers, step: int, config: Config) -> None:
    """As `set_rates`, for baselines: the class encoder has G's rate or, before G starts to learn, the full rate."""
    joint = step >= config.schedule.guide_only_until
    share = share_of_rate(step, config) if joint else 1.0
    _set(optimisers, share * config.optimisers.generator_rate, step, config)


def _set(optimisers: Optimisers, of_guide: float, step: int, config: Config) -> None:
    """Set the rates of all optimisers. of_guide: the rate of E or of the class encoder."""
    settings, share = config.optimisers, share_of_rate(step, config)
    for optimiser, rate in (
        (optimisers.guide, of_guide),
        (optimisers.generator, share * settings.generator_rate),
        (optimisers.discriminator, share * settings.discriminator_rate),
    ):
        for group in optimiser.param_groups:
            group["lr"] = rate
