"""Exponential moving averages (EMA) of networks, written with a bar in the paper."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


@torch.no_grad()
def update_ema(average: nn.Module, live: nn.Module, decay: float) -> None:
    """Update the parameters of `average`: average <- decay * average + (1 - decay) * live. With decay 0, copy them.

    Buffers are always copied: statistics of batch norm, which are running averages already, and constants.
    """
    averages = [p.detach() for p in average.parameters()]
    torch._foreach_lerp_(averages, [p.detach() for p in live.parameters()], 1 - decay)
    for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
        mine.copy_(theirs)


def copy_and_freeze(network: N, twin: N) -> N:
    """Copy the values of `network` into `twin`, a second network of its class, and freeze that. Returns `twin`."""
    twin.load_state_dict(network.state_dict())
    twin.requires_grad_(False)
    return twin
