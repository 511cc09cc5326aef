"""Gradients that are differentiated themselves, as in R1: which of them a custom operator has to compute."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_inputs_only = False


@contextmanager
def gradients_of_inputs_only() -> Iterator[None]:
    """Inside, gradients that are to be differentiated are not computed for parameters.

    PyTorch does not tell a `torch.autograd.Function` which of its gradients are asked for; the gradient penalty asks
    for the picture's alone.
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
    """The gradients of function(*inputs) along dy that are wanted, by PyTorch, to be differentiated themselves."""
    views = [value.view_as(value) for value in inputs]  # for one input may have been made of another
    asked = [value for value, is_wanted in zip(views, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(function(*views), asked, dy, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
