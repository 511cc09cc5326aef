"""RMSprop and Adam as PyTorch has them, but in one pass over the memory where they run on a processor.

PyTorch reads and writes every parameter's memory about ten times in a step, and those are most of what an optimiser
costs. The passes are native/optimisers.c; states are as PyTorch keeps them, so that either goes on with the other's.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tunit import native


class RMSprop(torch.optim.RMSprop):
    """torch.optim.RMSprop without momentum; L2 weight decay."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients; returns what `closure` does."""
        if closure is not None or not _is_taken(self):
            return super().step(closure)
        for parameter, group in _trained(self):
            gradient, state = _gradient_and_state(self, parameter, "square_avg")
            native.call(
                "rmsprop",
                *(parameter, gradient, state["square_avg"]),
                parameter.numel(),
                *(float(group[name]) for name in ("lr", "alpha", "eps", "weight_decay")),
            )
        return None


class Adam(torch.optim.Adam):
    """torch.optim.Adam; L2 weight decay."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients; returns what `closure` does."""
        if closure is not None or not _is_taken(self):
            return super().step(closure)
        for parameter, group in _trained(self):
            gradient, state = _gradient_and_state(self, parameter, "exp_avg", "exp_avg_sq")
            beta, gamma = group["betas"]
            step = state["step"].item()
            native.call(
                "adam",
                *(parameter, gradient, state["exp_avg"], state["exp_avg_sq"]),
                parameter.numel(),
                float(group["lr"] / (1 - beta**step)),
                math.sqrt(1 - gamma**step),
                *(float(value) for value in (beta, gamma, group["eps"], group["weight_decay"])),
            )
        return None


def _trained(optimiser: Optimizer) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """The parameters that have a gradient, each with its settings."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter, group


def _is_taken(optimiser: Optimizer) -> bool:
    """Whether compiled code can take all of its parameters."""
    return native.is_there() and all(
        parameter.device.type == "cpu"
        and parameter.dtype == torch.float32
        and (parameter.is_contiguous() or parameter.is_contiguous(memory_format=torch.channels_last))
        for parameter, _ in _trained(optimiser)
    )


def _gradient_and_state(
    optimiser: Optimizer, parameter: Tensor, *means: str
) -> tuple[Tensor, dict[str, Any]]:
    """A parameter's gradient, and its state for one step more; both lie in memory as the parameter does."""
    state = optimiser.state[parameter]
    if not state:
        state["step"] = torch.zeros(())
        state |= {name: torch.zeros_like(parameter) for name in means}
    state["step"] += 1
    state |= {name: _laid_out_as(parameter, state[name]) for name in means}
    assert parameter.grad is not None
    return _laid_out_as(parameter, parameter.grad), state


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value`, or a copy that lies in memory as `parameter` does."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)
