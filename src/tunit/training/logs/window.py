"""The losses and the speed since the last line of metrics; losses stay on the device until they are read."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunit.errors import NonFiniteError
from tunit.methods.losses import Terms

SECONDS_PER_STEP = "speed/seconds_per_step"  # name of a figure in the log


@dataclass(frozen=True)
class _Step:
    """What is kept of a step until it is checked."""

    terms: Terms
    gradients: dict[str, Tensor]
    cursors: dict[str, int]


class LossWindow:
    """Collects the losses of successive steps; reads them off the device only when asked.

    Every step is read once, by `check`. Then only the sums of its losses remain, however rare the lines of metrics
    are; of the newest step, the losses too.

    start: the number of steps taken before the first one that is added.
    rate: returns the device's speed in matrix products, in operations per second; called only if steps were counted.
    """

    def __init__(self, start: int, rate: Callable[[], float] | None = None) -> None:
        self._rate = rate
        self.restart(start)

    def restart(self, step: int) -> None:
        """Empty the window; the next step is the one after `step`."""
        self._newest = step  # the number of the newest step
        self._checked = step  # the number of the newest step that was checked
        self._held: list[_Step] = []  # the newest step, and those before it that were not checked
        self._sums: dict[str, float] = {}  # for each loss, the sum over the steps that were checked,
        self._counts: dict[str, int] = {}  # and how many of them have this loss
        self._steps = self._pictures = 0
        self._flops: float | None = 0.0  # operations of the steps in the window; None if some are unknown
        self._began = time.perf_counter()

    def add(
        self,
        terms: Terms,
        pictures: int,
        flops: int | None = None,
        gradients: Mapping[str, Tensor] | None = None,
        cursors: dict[str, int] | None = None,
    ) -> None:
        """Add the losses of the next step.

        pictures: its batch size; flops: its operations in this process; gradients: for each network, whether they
        were finite; cursors: those before its batch was taken.
        """
        if self._checked == self._newest:
            self._held = []
        self._held.append(_Step(terms, dict(gradients or {}), cursors or {}))
        self._newest += 1
        self._steps += 1
        self._pictures += pictures
        self._flops = None if self._flops is None or flops is None else self._flops + flops

    @property
    def first(self) -> int:
        """The number of the first step that is held, or of the next one; the run's first step is 1."""
        return self._newest + 1 - len(self._held)

    def cursors_at(self, step: int) -> dict[str, int]:
        """The cursors before the batch of a step was taken that is the newest one, or was not checked."""
        return self._held[step - self.first].cursors

    def latest(self) -> dict[str, float]:
        """The newest losses as numbers, and the speed."""
        if not self._held:
            return {}
        return {name: term.item() for name, term in self._held[-1].terms.items()} | self.speed()

    def speed(self) -> dict[str, float]:
        """Seconds per step and pictures per second since the last flush; if all steps were counted, also the share of
        the device's speed in matrix products.
        """
        seconds = max(time.perf_counter() - self._began, 1e-9)
        found = {
            SECONDS_PER_STEP: seconds / max(self._steps, 1),
            "speed/pictures_per_second": self._pictures / seconds,
        }
        if self._rate and self._flops:
            found["speed/mfu"] = self._flops / seconds / self._rate()
        return found

    def check(self, last_checkpoint: Path | None) -> None:
        """Raises NonFiniteError if a loss or gradient of a step that was not checked is not finite, naming it, the
        step and the last good checkpoint.
        """
        read: list[dict[str, float]] = []
        unchecked = self._held[self._checked + 1 - self.first :]
        for step, held in enumerate(unchecked, start=self._checked + 1):
            terms = held.terms
            values = torch.stack([term.float() for term in terms.values()]).tolist() if terms else []
            read.append(dict(zip(terms, values, strict=True)))
            for name, value in read[-1].items():
                # Lengths of gradients are not losses; below, all gradients are checked.
                if not math.isfinite(value) and "gradient" not in name:
                    raise non_finite(f"the loss {name} is {value}", step, last_checkpoint)
            for name, finite in held.gradients.items():
                if not finite:
                    raise non_finite(f"a gradient of {name} is not finite", step, last_checkpoint)
        for found in read:
            for name, value in found.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1
        self._held, self._checked = self._held[-1:], self._newest

    def flush(self, step: int, last_checkpoint: Path | None) -> dict[str, float]:
        """Mean of every loss, and the speed, since the last flush. Empties the window.

        Raises NonFiniteError as `check` does.
        """
        self.check(last_checkpoint)
        means = {name: total / self._counts[name] for name, total in self._sums.items()} | self.speed()
        self.restart(step)
        return means


def non_finite(what: str, step: int, last_checkpoint: Path | None) -> NonFiniteError:
    """The error for something that is not finite at a step."""
    rates = "lower --guide-rate, --generator-rate and --discriminator-rate"
    if last_checkpoint:
        rest = (
            f"the last good checkpoint is {last_checkpoint}: resume with --on-nan rollback or with --precision "
            f"float32, or start a new run with {rates}"
        )
    else:
        rest = (
            f"there is no checkpoint yet: start a new run with {rates}, with --precision float32, or with --on-nan "
            "rollback"
        )
    return NonFiniteError(what, step, f"{what} at step {step}; {rest}")
