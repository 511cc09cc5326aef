"""Checks of numbers that a Python program gives to the API: one of a wrong kind or size is one sentence, too."""

import math
import operator
from typing import Any

from tunit.errors import ConfigError

LARGEST_SEED = 2**63 - 1  # the largest that NumPy and PyTorch accept


def whole_number(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> int:
    """A whole number of Python, numpy or torch as an int, low <= number <= high.

    Raises ConfigError with the sentence `what`, in which {} stands for the value.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError):
        raise ConfigError(what.format(repr(value))) from None
    if not low <= number <= high:
        raise ConfigError(what.format(value))
    return number


def real_number(value: Any, what: str) -> float:
    """A finite number of Python, numpy or torch as a float. Raises ConfigError with the sentence `what`."""
    try:
        if isinstance(value, bool | str | bytes) or not math.isfinite(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(what.format(repr(value))) from None


def given_seed(value: Any) -> int:
    """A seed, from 0 to LARGEST_SEED. Raises ConfigError."""
    return whole_number(value, f"seed is {{}}: take a whole number from 0 to {LARGEST_SEED}", 0, LARGEST_SEED)
