"""Exponential moving averages of networks (the bars over E and G in the paper)."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


@torch.no_grad()
def follow(average: nn.Module, live: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * live, for parameters; buffers are taken over as they are.

    Buffers are batch-norm statistics, themselves running averages. decay 0 is a plain copy.
    """
    averages = [p.detach() for p in average.parameters()]
    torch._foreach_lerp_(averages, [p.detach() for p in live.parameters()], 1 - decay)
    for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
        mine.copy_(theirs)


def frozen_copy_of(network: N, twin: N) -> N:
    """`twin`, a second instance of network's class, with network's values and without gradients."""
    twin.load_state_dict(network.state_dict())
    twin.requires_grad_(False)
    return twin
