"""Which gradients a custom operator must compute if they will be differentiated again, as for R1."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_inputs_only = False


@contextmanager
def gradients_of_inputs_only() -> Iterator[None]:
    """Inside the block, differentiable gradients are computed only for pictures, not for parameters.

    The gradient penalty needs only the gradient of the picture, but PyTorch does not tell a custom operator which
    gradients are needed.
    """
    global _inputs_only
    before, _inputs_only = _inputs_only, True
    try:
        yield
    finally:
        _inputs_only = before


def inputs_only() -> bool:
    """Whether this is inside `gradients_of_inputs_only`."""
    return _inputs_only


def differentiable_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], wanted: Sequence[bool], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """The vector-Jacobian products of function(*inputs) with dy, computed by PyTorch and differentiable.

    wanted: for which inputs; the others get None.
    """
    # Views: if input b was computed from input a, autograd would otherwise add what flows through b to a's gradient.
    views = [value.view_as(value) for value in inputs]
    asked = [value for value, is_wanted in zip(views, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(function(*views), asked, dy, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
