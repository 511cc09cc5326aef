"""Python functions as PyTorch operators for the CPU, with a backward pass.

As operators, they are visible to the code that counts floating-point operations for the speed in the log.
`torch.library.custom_op` would do the same, but its operators import PyTorch's compiler at their first call, which
takes two seconds. The operators here can do without the compiler, because they are never called from compiled code:
there `tunit.native.supports` is False.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

# The operators exist as long as this object.
_LIBRARY = torch.library.Library("tunit", "FRAGMENT")


class CPUOperator:
    """The operator `tunit::<name>` of a function that takes CPU tensors and changes none.

    The function's type annotations give the operator's schema.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.__doc__ = function.__doc__
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(self.name + schema)
        _LIBRARY.impl(self.name, function, "CPU")
        self.operator: torch._ops.OpOverload = getattr(torch.ops.tunit, self.name).default

    def __call__(self, *args: Any) -> Any:
        """The function's result."""
        return self.operator(*args)

    def register_fake(self, function: Callable[..., Any]) -> None:
        """Let `function` give the shapes of the results, for tensors without values."""
        torch.library.register_fake(f"tunit::{self.name}", function, lib=_LIBRARY)

    def register_autograd(
        self, backward: Callable[..., Any], setup_context: Callable[..., None] | None = None
    ) -> None:
        """Let `backward` compute the gradients, as in a `torch.autograd.Function`."""
        torch.library.register_autograd(
            f"tunit::{self.name}", backward, setup_context=setup_context, lib=_LIBRARY
        )


def cpu_operator(name: str) -> Callable[[Callable[..., Any]], CPUOperator]:
    """A decorator that makes a function the operator `tunit::<name>`."""
    return partial(CPUOperator, name)


def no_gradient(ctx: Any, *gradients: Tensor) -> None:
    """The backward pass to register for an operator that cannot be differentiated: raises RuntimeError."""
    raise RuntimeError("this operator cannot be differentiated once more")
