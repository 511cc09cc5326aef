"""What is wrong with a published checkpoint, in words."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tunit.errors import RunError
from tunit.printing import shown


def misfit(name: str, problems: list[str]) -> RunError:
    """The error that names the first problems of the checkpoint `name`."""
    return RunError(
        f"{name} does not fit the networks of the published implementation: {few(problems, '; ')}"
    )


def few(items: list[str], separator: str) -> str:
    """The first three items, and how many more there are."""
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return separator.join(_plain(item) for item in items[:3]) + more


def _plain(text: str) -> str:
    """A name from an untrusted file: shortened, on one line, and without control characters for a terminal."""
    return shown(text)[1:-1]


def fits(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether `value` is a dense tensor of that shape on the CPU; unless it is a scalar, of floats.

    Its storage must hold all its values. In a strided tensor many values can share one place, so a file of a few
    bytes could declare a tensor that fills all memory when it is copied.
    """
    if not isinstance(value, Tensor) or value.shape != shape or value.layout != torch.strided:
        return False
    if value.device.type != "cpu" or not (value.is_floating_point() or shape == ()):
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def description_of(value: Any) -> str:
    """A short description of a value, for an error message."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return few([str(k) if isinstance(k, str) else shown(k) for k in value], ", ") or "nothing"
    return f"a {type(value).__name__}"
