"""RMSprop as PyTorch has it, but in one pass over the memory where it runs on a processor (native/rmsprop.c)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tunit import native


class RMSprop(torch.optim.RMSprop):
    """torch.optim.RMSprop without momentum, its states as PyTorch keeps them; L2 weight decay.

    On a processor PyTorch reads and writes every parameter's memory nine times in a step, and those are most of what
    an optimiser costs.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients; returns what `closure` does."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if closure is not None or not all(_is_taken(p) for p in parameters) or not native.is_there():
            return super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_of(parameter, group)
        return None

    def _step_of(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["square_avg"] = torch.zeros_like(parameter)
        state["step"] += 1
        assert parameter.grad is not None
        # As the parameter lies in memory.
        gradient, square = (_laid_out_as(parameter, value) for value in (parameter.grad, state["square_avg"]))
        native.call(
            "rmsprop",
            *(parameter, gradient, square),
            parameter.numel(),
            *(float(group[name]) for name in ("lr", "alpha", "eps", "weight_decay")),
        )
        state["square_avg"] = square


def _is_taken(parameter: Tensor) -> bool:
    dense = parameter.is_contiguous() or parameter.is_contiguous(memory_format=torch.channels_last)
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32 and dense


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value`, or a copy that lies in memory as `parameter` does."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)
