"""Random numbers without state: all are determined by the run's seed, a purpose and a counter.

There is no generator whose state would have to be saved, so resuming is exact.
"""

import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class CounterStart(IntEnum):
    """First counters for batches that belong to no training step, and for steps after a rollback.

    The counter of a training step is its number, as long as there was no rollback (`counter_of_step`). These counters
    are larger than the steps of any schedule and far apart from each other, so no random numbers are used twice.
    Counter i of a purpose is `CounterStart.PURPOSE + i`.
    """

    FIRST_KEYS = 2**40  # for the batches that fill the key queue of a new run
    CANDIDATES = 2**41  # to compare E's candidate domain heads
    TWO_VIEWS = 2**42  # to measure how stable domains are, for a report
    AFTER_ROLLBACK = 2**43  # after n rollbacks, n times this is added to the number of a step


def counter_of_step(step: int, rollbacks: int) -> int:
    """The counter of a training step (the first step is 0). After each rollback it is another one, so that a repeated
    step has other random numbers.
    """
    return step + rollbacks * CounterStart.AFTER_ROLLBACK


@dataclass(frozen=True)
class Share:
    """Which pictures of a batch this process has.

    Random numbers are drawn for the whole batch, and then those of this process's pictures are taken. So a picture's
    random numbers do not depend on the number of processes. Drawing costs little.
    """

    batch: int
    rows: slice = field(default_factory=lambda: slice(None))

    def of(self, drawn: Tensor) -> Tensor:
        """The random numbers of this process's pictures, from those of the whole batch, (batch, ...)."""
        return drawn[self.rows]


def seed_of(seed: int, purpose: str, counter: int) -> int:
    """A 64-bit seed that is independent for every (seed, purpose, counter)."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), counter]).generate_state(1, np.uint64)
    return int(words[0])


def torch_generator(seed: int, purpose: str, counter: int) -> torch.Generator:
    """A generator on the CPU, so that every device gets the same random numbers."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(seed, purpose, counter) & (2**63 - 1))
    return generator


def numpy_generator(seed: int, purpose: str, counter: int) -> np.random.Generator:
    """As `torch_generator`, for numpy."""
    return np.random.default_rng(seed_of(seed, purpose, counter))
