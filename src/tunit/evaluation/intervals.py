"""Bootstrap confidence intervals of figures.

References:
    [1] Efron. Bootstrap methods: another look at the jackknife, 1979.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN_REPEATS = 1000
WITHIN = 0.95  # confidence level of the intervals
NORMAL_WITHIN = 1.96  # standard deviations within which a normal variable lies with that probability


@dataclass(frozen=True)
class Figure:
    """One figure, with its interval and sample size."""

    value: float
    low: float  # of the 95 % interval
    high: float
    number: int  # of pictures (or pairs) that it was computed from

    def __post_init__(self) -> None:
        # Resampling rounds differently; this must not put the value outside its own interval.
        object.__setattr__(self, "low", min(self.low, self.value))
        object.__setattr__(self, "high", max(self.high, self.value))


def mean_figure(values: Tensor | NDArray[np.generic], seed: int = 0, repeats: int = MEAN_REPEATS) -> Figure:
    """The mean of per-picture values (N,), with its percentile bootstrap interval [1]."""
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    # Counting how often each value is drawn gives the same means as drawing them, with far less memory.
    means = [
        float(rng.multinomial(len(array), np.full(len(array), 1 / len(array))) @ array) / len(array)
        for _ in range(repeats)
    ]
    low, high = np.quantile(means, [(1 - WITHIN) / 2, (1 + WITHIN) / 2])
    return Figure(float(array.mean()), float(low), float(high), len(array))


def resampled_figure(
    statistic: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor, *, repeats: int, seed: int = 0
) -> Figure:
    """statistic(a, b), with an interval from its spread when both sets are resampled [1].

    This is for statistics that resampling shifts, such as FID, which grows if there are fewer different pictures.
    Only the width of the interval comes from the resampled values; its centre is the figure itself.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=generator).to(x.device)]

    value = statistic(a, b)
    spread = float(np.std([statistic(drawn(a), drawn(b)) for _ in range(repeats)], ddof=1))
    return Figure(value, value - NORMAL_WITHIN * spread, value + NORMAL_WITHIN * spread, len(b))
