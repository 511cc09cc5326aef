"""From a loss to an optimiser step, with gradients summed over all processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tunit.config import Config
from tunit.distributed import reduce_gradients
from tunit.methods.losses import full_precision


def mixed_precision(x: Tensor, config: Config) -> torch.autocast:
    """A block in which convolutions and matrices run in the config's precision, on x's device."""
    low = config.run.precision == "bfloat16"
    # No cache: it would still hold the old weights after an optimiser step inside the block.
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low, cache_enabled=False)


@contextmanager
def descent(*optimisers: torch.optim.Optimizer) -> Iterator[None]:
    """Clear gradients; after the block, sum them over all processes and step each optimiser."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    yield
    for optimiser in optimisers:
        reduce_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
        optimiser.step()


def backward(loss: Tensor) -> None:
    """Add the gradient of `loss` to the parameters'."""
    # Backward runs in each operation's forward precision; autocast would lower float32 ones.
    with full_precision(loss):
        loss.backward()  # type: ignore[no-untyped-call]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, gradients flow through `network` but are not computed for its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
