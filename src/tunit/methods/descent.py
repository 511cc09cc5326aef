"""From a loss to a step of an optimiser, along the gradient of the whole batch."""

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
    # No cache: it would keep weights as they were before an update within the block.
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low, cache_enabled=False)


@contextmanager
def descent(*optimisers: torch.optim.Optimizer) -> Iterator[None]:
    """One step of each optimiser, along the gradients that are left inside, of all processes together."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    yield
    for optimiser in optimisers:
        reduce_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
        optimiser.step()


def backward(loss: Tensor) -> None:
    """Add the gradient of `loss` to the parameters'."""
    # Each operation goes back in the precision it came in; autocast would cast float32 ones again.
    with full_precision(loss):
        loss.backward()  # type: ignore[no-untyped-call]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through `network` but not into its parameters, which saves their computation."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
