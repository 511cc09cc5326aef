"""Numbers on the command line. For what is none, or out of its range, the error is one clear sentence."""

import argparse
from collections.abc import Callable

from tunit.config.fields import comma_hint
from tunit.given import LARGEST_SEED
from tunit.printing import shown


def whole(low: int, high: int) -> Callable[[str], int]:
    """The `type` of an argument that is a whole number from `low` to `high`."""

    def read(text: str) -> int:
        """The number, within its range."""

        try:
            value = int(text)
        except ValueError:  # also raised for numbers of thousands of digits
            raise _refused(text, "a whole number") from None
        if low <= value <= high:
            return value
        limit = f"least {low}" if value < low else f"most {high}"
        raise argparse.ArgumentTypeError(f"is {shown(value)}: take at {limit}")

    return read


seed = whole(0, LARGEST_SEED)


def share(text: str) -> float:
    """The `type` of an argument above 0, up to 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise _refused(text, "a number above 0, up to 1")
    return value


def number(text: str) -> float:
    """The `type` of an argument that is any number."""
    try:
        return float(text)
    except ValueError:
        raise _refused(text, "a number") from None


def _refused(text: str, wanted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"is {shown(text)}: take {wanted}{comma_hint(text)}")
