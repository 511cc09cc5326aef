"""The losses and the speed since the last line of metrics; losses stay on the device until they are read."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tunit.errors import NonFiniteError
from tunit.methods.losses import Terms


class LossWindow:
    """Collects the losses of successive steps; reads them off the device only when asked.

    start: the number of steps taken before the first one that is added.
    rate: returns the device's speed in matrix products, in operations per second; called only if steps were counted.
    """

    def __init__(self, start: int, rate: Callable[[], float] | None = None) -> None:
        self._rate = rate
        self._flops: float | None = 0.0  # operations of the steps in the window; None if some are unknown
        self.first = start + 1  # the number of the first step in the window; the run's first step is 1
        self._terms: list[Terms] = []
        self._gradients: list[dict[str, Tensor]] = []
        self._cursors: list[dict[str, int]] = []
        self._pictures = 0
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
        self._terms.append(terms)
        self._gradients.append(dict(gradients or {}))
        self._cursors.append(cursors or {})
        self._pictures += pictures
        self._flops = None if self._flops is None or flops is None else self._flops + flops

    def cursors_at(self, step: int) -> dict[str, int]:
        """The cursors before the batch of a step in the window was taken."""
        return self._cursors[step - self.first]

    def restart(self, step: int) -> None:
        """Empty the window; the next step is the one after `step`."""
        self.first, self._terms, self._pictures, self._flops = step + 1, [], 0, 0.0
        self._gradients, self._cursors = [], []
        self._began = time.perf_counter()

    def latest(self) -> dict[str, float]:
        """The newest losses as numbers, and the speed."""
        if not self._terms:
            return {}
        return {name: term.item() for name, term in self._terms[-1].items()} | self.speed()

    def speed(self) -> dict[str, float]:
        """Seconds per step and pictures per second since the last flush; if all steps were counted, also the share of
        the device's speed in matrix products.
        """
        seconds = max(time.perf_counter() - self._began, 1e-9)
        found = {
            "speed/seconds_per_step": seconds / max(len(self._terms), 1),
            "speed/pictures_per_second": self._pictures / seconds,
        }
        if self._rate and self._flops:
            found["speed/mfu"] = self._flops / seconds / self._rate()
        return found

    def check(self, last_checkpoint: Path | None, *, newest: bool = False) -> None:
        """Raises NonFiniteError if a loss or gradient is not finite, naming it, the step and the last good
        checkpoint.

        newest: look at the newest step alone.
        """
        first = self.first + len(self._terms) - 1 if newest else self.first
        held = list(zip(self._terms, self._gradients, strict=True))
        for step, (terms, gradients) in enumerate(held[-1:] if newest else held, start=first):
            values = torch.stack([term.float() for term in terms.values()]).tolist() if terms else []
            for name, value in zip(terms, values, strict=True):
                # Lengths of gradients are not losses; below, all gradients are checked.
                if not math.isfinite(value) and "gradient" not in name:
                    raise non_finite(f"the loss {name} is {value}", step, last_checkpoint)
            for name, finite in gradients.items():
                if not finite:
                    raise non_finite(f"a gradient of {name} is not finite", step, last_checkpoint)

    def flush(self, step: int, last_checkpoint: Path | None) -> dict[str, float]:
        """Mean of every loss, and the speed, since the last flush. Empties the window.

        Raises NonFiniteError as `check` does.
        """
        self.check(last_checkpoint)
        names = dict.fromkeys(name for terms in self._terms for name in terms)
        means = {}
        for name in names:
            values = [terms[name].float() for terms in self._terms if name in terms]
            means[name] = torch.stack(values).mean().item()
        means |= self.speed()
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
