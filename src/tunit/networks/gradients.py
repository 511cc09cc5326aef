"""Which gradients are asked for where a gradient is itself to be differentiated."""

from collections.abc import Iterator
from contextlib import contextmanager

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
