"""From a loss to an optimiser step: gradients are summed over all processes and checked.

A gradient that is not finite would spoil the weights and then the EMAs. On a CPU the optimiser skips such a step. On
a GPU the step is not skipped, because the CPU would have to wait for the GPU's result in every step; instead,
`watching_gradients` collects flags that are read later.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tunit.config import Config
from tunit.distributed.collectives import reduce_gradients
from tunit.machine import reads_at_once
from tunit.methods.losses import without_autocast


def mixed_precision(x: Tensor, config: Config) -> torch.autocast:
    """A context in which convolutions and matrix products on x's device run in the config's precision."""
    low = config.run.precision == "bfloat16"
    # Without autocast's cache of weights, which would still hold the old ones after an optimiser step in the block.
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low, cache_enabled=False)


# An optimiser, and whether its gradients were finite: a bool tensor on the device.
GradientFlag = tuple[torch.optim.Optimizer, Tensor]
_watched: list[GradientFlag] | None = None


@contextmanager
def watching_gradients() -> Iterator[list[GradientFlag]]:
    """Inside the block, every `descent` adds to the list whether its gradients were finite."""
    global _watched
    before, _watched = _watched, []
    try:
        yield _watched
    finally:
        _watched = before


def are_finite(tensors: list[Tensor]) -> Tensor:
    """Whether all values of all tensors, which are on one device, are finite; as a tensor, so that the CPU need not
    wait for a GPU.
    """
    largest = torch._foreach_norm(tensors, float("inf"))
    return torch.stack([value.float() for value in largest]).isfinite().all()


@contextmanager
def descent(*optimisers: torch.optim.Optimizer) -> Iterator[None]:
    """Clear gradients before the block; after it, sum them over all processes and step each optimiser.

    On a CPU an optimiser skips the step if one of its gradients is not finite.
    """
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    yield
    for optimiser in optimisers:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        reduce_gradients(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            finite = are_finite(gradients)
            if _watched is not None:
                _watched.append((optimiser, finite))
            if reads_at_once(finite.device) and not finite:
                continue
        optimiser.step()


def backward(loss: Tensor) -> None:
    """Add the gradient of `loss` to the gradients of the parameters. Does nothing if it depends on none of them."""
    if not loss.requires_grad:  # every weight is 0
        return
    # Autocast is off here, so that each operation's backward pass has the precision of its forward pass.
    with without_autocast(loss):
        loss.backward()


def gradient_norm(network: nn.Module) -> Tensor:
    """The L2 norm of a network's gradient, a scalar on its device; 0 if no parameter has one.

    After a `descent` the gradient stays, summed over all processes, until the next one begins; so call this between
    the two.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        return next(network.parameters()).new_zeros(())
    return nn.utils.get_total_norm(gradients)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, gradients flow through `network` but are not computed for its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
