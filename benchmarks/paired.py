"""Two ways to do the same work, timed alternately, so that a busy moment of the machine affects both."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def spread(values: list[float]) -> dict[str, Any]:
    """Median, least and most, to four significant digits."""
    return {
        "median": float(f"{statistics.median(values):.4g}"),
        "least": float(f"{min(values):.4g}"),
        "most": float(f"{max(values):.4g}"),
        "repeats": len(values),
    }


def compare(
    ours: Callable[[], object], baseline: Callable[[], object], *, work: int, repeats: int
) -> dict[str, Any]:
    """Seconds per piece of work for both methods, and how many times as fast ours is. Both are warmed up once.

    work: the number of pieces (pictures) in one call. The factor is the median over pairs.
    """
    ours(), baseline()
    pairs = [(seconds_of(ours) / work, seconds_of(baseline) / work) for _ in range(repeats)]
    return {
        "tunit, seconds each": spread([pair[0] for pair in pairs]),
        "baseline, seconds each": spread([pair[1] for pair in pairs]),
        "times as fast": spread([pair[1] / pair[0] for pair in pairs]),
    }
