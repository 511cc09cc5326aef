"""Randomness without state: every draw is a function of the run's seed, its purpose and a counter.

This is what makes resuming exact: there is no generator whose state could be lost.
"""

import zlib
from enum import IntEnum

import numpy as np
import torch


class CounterStart(IntEnum):
    """First counters of the batches that are drawn for a purpose other than a training step.

    A training step's counter is its number. These start beyond the steps of any schedule, and far from each other, so
    that no random numbers are used twice. Counter i of a purpose is `CounterStart.PURPOSE + i`.
    """

    FIRST_KEYS = 2**40  # fill the key queue of a fresh run
    CANDIDATES = 2**41  # compare E's candidate domain heads
    TWO_VIEWS = 2**42  # measure how stable domains are, for a report


def seed_of(seed: int, purpose: str, counter: int) -> int:
    """A 64-bit seed that is independent for every (seed, purpose, counter)."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), counter]).generate_state(1, np.uint64)
    return int(words[0])


def torch_generator(seed: int, purpose: str, counter: int) -> torch.Generator:
    """A generator on the CPU, whatever the device, so that every device sees the same draws."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(seed, purpose, counter) & (2**63 - 1))
    return generator


def numpy_generator(seed: int, purpose: str, counter: int) -> np.random.Generator:
    """As `torch_generator`, for numpy."""
    return np.random.default_rng(seed_of(seed, purpose, counter))
