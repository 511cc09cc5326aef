"""Bootstrap confidence intervals of figures.

References:
    [1] Efron. Bootstrap methods: another look at the jackknife, 1979.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN_REPEATS = 1000  # resamplings for the interval of a mean
# The mean of more values than this has the distribution of a normal variable, to three digits, and resampling them a
# thousand times would take minutes.
MOST_RESAMPLED = 100_000
LEVEL = 0.95  # confidence level of the intervals
NORMAL_WITHIN = 1.96  # a normal variable is within this many standard deviations with that probability


@dataclass(frozen=True)
class Figure:
    """A measured number (not a drawing), with its 95 % interval and the number of pictures."""

    value: float
    low: float  # the ends of the 95 % interval
    high: float
    number: int  # how many pictures it was computed from; for KID, in each of its subsets

    def __post_init__(self) -> None:
        # Because of rounding, the value could lie just outside its own interval; then widen the interval.
        object.__setattr__(self, "low", min(self.low, self.value))
        object.__setattr__(self, "high", max(self.high, self.value))


def mean_figure(values: Tensor | NDArray[np.generic], seed: int = 0, repeats: int = MEAN_REPEATS) -> Figure:
    """The mean of per-picture values (N,), with its percentile bootstrap interval [1], or the normal one of many."""
    array = np.asarray(values, np.float64)
    if len(array) > MOST_RESAMPLED:
        mean, half = float(array.mean()), NORMAL_WITHIN * float(array.std()) / len(array) ** 0.5
        low, high = max(mean - half, float(array.min())), min(mean + half, float(array.max()))
        return Figure(mean, low, high, len(array))
    rng = np.random.default_rng(seed)
    # Drawing how often each value occurs gives the same distribution of means as drawing values, with far less
    # memory.
    means = [
        float(rng.multinomial(len(array), np.full(len(array), 1 / len(array))) @ array) / len(array)
        for _ in range(repeats)
    ]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(array.mean()), float(low), float(high), len(array))


def resampled_figure(
    statistic: Callable[[Tensor, Tensor], float],
    a: Tensor,
    b: Tensor,
    *,
    repeats: int,
    seed: int = 0,
    least: float = -math.inf,
) -> Figure:
    """statistic(a, b), with an interval from its standard deviation when both sets are resampled [1].

    Use it for statistics that resampling shifts, such as FID: a resampled set has fewer different pictures, and then
    FID is larger. Only the width of the interval comes from the resampled values; its centre is the figure itself.
    least: the statistic is never smaller, so the interval ends there.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(x: Tensor) -> Tensor:
        """As many rows of x as it has, drawn at random with repetition."""
        return x[torch.randint(len(x), (len(x),), generator=generator).to(x.device)]

    value = statistic(a, b)
    half = NORMAL_WITHIN * float(np.std([statistic(drawn(a), drawn(b)) for _ in range(repeats)], ddof=1))
    return Figure(value, max(value - half, least), value + half, len(b))
