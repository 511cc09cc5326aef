"""A training in progress, and the writing of its checkpoints and its model."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from tunit.clustering.choice import Choice, write_choice_file
from tunit.config import Config
from tunit.data.batching.batches import Batch, Batches
from tunit.data.packing.packed import PackedPictures
from tunit.distributed import is_rank_zero
from tunit.errors import TrainingError, TunitError
from tunit.files import UnwritableError
from tunit.methods.descent import are_finite
from tunit.methods.model_file import load_model, save_model
from tunit.methods.state import TrainingState
from tunit.process_group import on_rank_zero
from tunit.training.checkpoint import checkpoint_path, save_checkpoint, state_tensors
from tunit.training.initial_state import settled
from tunit.training.log import MetricsLog, ProgressDisplay
from tunit.training.run_folder import RunFolder
from tunit.training.samples import model_of
from tunit.training.speed import StepFlops
from tunit.training.watch import Watch
from tunit.training.window import LossWindow, non_finite


@dataclass
class Training:
    """A training in progress: its config, data, state and outputs."""

    config: Config
    run: RunFolder
    pictures: PackedPictures
    batches: Batches
    state: TrainingState
    log: MetricsLog | None  # only on rank 0
    display: ProgressDisplay
    window: LossWindow
    flops: StepFlops
    watch: Watch
    last_checkpoint: Path | None = None
    newest: tuple[Batch, Tensor] | None = None  # the last batch drawn, and the permutation
    rolled_back: int = 0  # how often the training went back to a checkpoint since it wrote the last one


def unwritable(training: Training, error: UnwritableError | OSError) -> TrainingError:
    """Return the error for a file that could not be written, after trying to save a checkpoint."""
    if training.last_checkpoint != checkpoint_path(training.run.checkpoints, training.state.step):
        try:
            training.window.check(training.last_checkpoint)
            check_state(training)
            write_state(training)
        except (TunitError, OSError):
            pass  # earlier checkpoints are undamaged
    last = training.last_checkpoint
    where = (
        f"after step {int(last.stem.removeprefix('step_'))}" if last else "from the start (no checkpoint yet)"
    )
    what = error.what if isinstance(error, UnwritableError) else f"training stopped ({error})"
    return TrainingError(
        f"{what}: free some disk space or make the folder writable, then resume {where} with "
        f"`tunit train --resume {training.run.path}`"
    )


def settle(training: Training, choice: Choice) -> None:
    """Use the number of domains that was found from now on; print it, and write down the reasons."""
    training.config = settled(training.config, training.state)
    training.display.say(choice.headline)
    for reason in choice.reasons:
        training.display.say(f"  {reason}")
    if is_rank_zero():
        write_choice_file(training.run.path, choice)
    save(training)  # a resumed run need not choose again


def save(training: Training) -> None:
    """Save a checkpoint and the model for inference.

    Raises NonFiniteError if a loss or gradient since the last line, or a value of the state, is not finite.
    """
    training.window.check(training.last_checkpoint)
    check_state(training)
    on_rank_zero(partial(write_state, training))
    training.last_checkpoint = checkpoint_path(training.run.checkpoints, training.state.step)
    training.rolled_back = 0


def check_state(training: Training) -> None:
    """Raises NonFiniteError if a value of the state is not finite, so that it never gets into a checkpoint."""
    tensors = {k: v for k, v in state_tensors(training.state).items() if v.is_floating_point()}
    if not are_finite(list(tensors.values())):
        name = next(name for name, tensor in tensors.items() if not tensor.isfinite().all())
        raise non_finite(
            f"{name} has a value that is not finite", training.state.step, training.last_checkpoint
        )


def write_state(training: Training) -> None:
    """Write a checkpoint and the model for inference."""
    training.last_checkpoint = save_checkpoint(
        training.run.checkpoints, training.state, training.config.run.keep_checkpoints
    )
    if training.log:
        training.log.flush()
    save_model(training.run.path, model_of(training.state, training.pictures, training.config))


def finish_model(training: Training) -> None:
    """Save the model of a run that has no steps left, if it was killed between its last checkpoint and its model."""
    try:
        there = load_model(training.run.path).step == training.state.step
    except TunitError:
        there = False  # there is no model, or it is damaged
    if not there:
        save_model(training.run.path, model_of(training.state, training.pictures, training.config))
