"""The demo's schedule: as many steps as fit into the given time on this machine."""

import math
import statistics
import time
from itertools import pairwise
from pathlib import Path

import torch

from tunit.config import Config
from tunit.data.batching.batches import batch_permutation, make_batch
from tunit.errors import ConfigError
from tunit.methods.findings import first_step_with_domains
from tunit.methods.registry import method_of
from tunit.training.alarms.watch import rows_of
from tunit.training.initial_state import new_state
from tunit.training.logs.window import SECONDS_PER_STEP
from tunit.training.resources import prepare_machine
from tunit.training.run_folder import RunFolder
from tunit.training.schedule import batch_size_at, phase_at

# Only this share of the given time is planned, because machines may slow down. Of it, DRAWING_SECONDS are for drawing
# the pictures and getting ready, REPORT_SECONDS for measuring and the report, and the rest is for training.
PLANNED_SHARE = 0.96
DRAWING_SECONDS = 20.0
REPORT_SECONDS = 20.0
FEWEST_JOINT_STEPS = 100
TIMED = 16  # steps whose median time the schedule is planned with
# A few steps do not tell the speed of a whole training, so the steps after this share of it are planned again.
FIRST_SHARE = 0.7
# The EMAs average over this many steps. With 25 steps, the contrastive loss collapses, and E's domains with it; with
# more than 200, the keys by E's EMA would be too old.
FEWEST_AVERAGED, MOST_AVERAGED = 100, 200


def planned_seconds(minutes: float) -> float:
    """The part of the given time that is planned, in seconds."""
    return 60 * minutes * PLANNED_SHARE


def fitting_schedule(config: Config, seconds: float) -> Config:
    """The config with as many steps as fit into about `seconds` on this machine, measured on a temporary state, and
    with their `average_decay`.
    """
    guide_only = steps_without_generator(config)
    # E's steps take longer once it learns domains, too.
    parts = (0, first_step_with_domains(config), guide_only)
    left = seconds - sum(
        (end - first) * _seconds_per_step(config, first) for first, end in pairwise(parts) if first < end
    )
    joint = max(int(left / _seconds_per_step(config, guide_only)), FEWEST_JOINT_STEPS)
    return config.with_overrides({"steps": guide_only + joint, "average_decay": average_decay(joint)})


def average_decay(joint: int) -> float:
    """The decay of the EMAs for a number of joint steps.

    They average over a quarter of these steps, but at least FEWEST_AVERAGED and at most MOST_AVERAGED: long runs gain
    from longer EMAs, but in short runs these would still contain the initial weights.
    """
    return 1 - 1 / min(max(joint / 4, FEWEST_AVERAGED), MOST_AVERAGED)


def steps_without_generator(config: Config) -> int:
    """The number of steps in which E trains alone. Raises ConfigError if the config has a share of all steps."""
    steps = config.schedule.guide_only_until
    if not isinstance(steps, int):
        raise ConfigError(f"guide_only_until is {steps}: the demo's preset needs a number of steps")
    return steps


def steps_of_first_part(config: Config) -> int:
    """The number of steps after which the others are planned again. config: from `fitting_schedule`."""
    guide_only = steps_without_generator(config)
    return guide_only + math.ceil(FIRST_SHARE * (config.schedule.steps - guide_only))


def joint_steps_within(seconds: float, run: Path, config: Config) -> int:
    """How many more joint steps fit into `seconds`, by the speed in the log of a run that has had some."""
    guide_only = steps_without_generator(config)
    rows = rows_of(RunFolder(run).metrics)
    joint = [row[SECONDS_PER_STEP] for row in rows if SECONDS_PER_STEP in row and row["step"] > guide_only]
    return max(int(seconds / statistics.fmean(joint)), 0)


def _seconds_per_step(config: Config, step: int) -> float:
    """The median time of TIMED steps from `step` on, after two that are not counted. (Unlike the mean, the median
    ignores a few disturbed steps.)
    """
    device = prepare_machine(config)
    state = new_state(config, device)
    size, generator = batch_size_at(step, config), torch.Generator().manual_seed(0)
    shape = (size, 3, config.data.image_size, config.data.image_size)
    x, x_plus = (torch.rand(shape, generator=generator).to(device) * 2 - 1 for _ in range(2))
    batch = make_batch(x, x_plus, torch.full((size,), -1))
    permutation = batch_permutation(0, 0, size).to(device)
    seconds = []
    for i in range(TIMED + 2):
        began = time.perf_counter()
        terms = method_of(config).step(state, batch, permutation, phase_at(step + i, config), config)
        next(iter(terms.values())).item()  # wait for the device
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])
