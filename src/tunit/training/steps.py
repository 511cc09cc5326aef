"""The training step of each architecture, taken as a config says."""

from typing import Any

from torch import Tensor

from tunit.config import Config
from tunit.data.batches import Batch
from tunit.machine import PRECISIONS
from tunit.training.funit_step import funit_step
from tunit.training.losses import Terms
from tunit.training.semit_step import semit_step
from tunit.training.state import TrainingState
from tunit.training.step import Phase, train_step

STEPS = {"tunit": train_step, "funit": funit_step, "semit": semit_step}  # by architecture


def take_step(state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config) -> Terms:
    """Update `state` by one step of the config's architecture; arguments and result as of `train_step`."""
    # The baselines take a batch at once, so that only TUNIT's step knows the word.
    in_parts: dict[str, Any] = {"micro_batch": config.run.micro_batch} if config.run.micro_batch else {}
    return STEPS[config.networks.architecture](
        state,
        batch,
        permutation,
        phase,
        config.losses,
        average_decay=config.optimisers.average_decay,
        precision=PRECISIONS[config.run.precision],
        **in_parts,
    )
