"""From a loss to a step of an optimiser, along the gradient of the whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tunit.distributed import reduce_gradients
from tunit.training.losses import full_precision


def update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of `optimiser` along the gradient of `loss`."""
    optimiser.zero_grad(set_to_none=True)
    backward(loss)
    descend(optimiser)


def descend(optimiser: torch.optim.Optimizer) -> None:
    """One step of `optimiser` along the gradients of the whole batch."""
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
