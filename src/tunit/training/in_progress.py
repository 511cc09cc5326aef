"""A training in progress: the batch of each step, its checkpoints and its model."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tunit.clustering.choice import Choice, write_choice_file
from tunit.config import Config
from tunit.data.batching.batches import Batch, Batches, batch_permutation
from tunit.data.batching.randomness import counter_of_step
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import is_rank_zero
from tunit.distributed.process_group import on_rank_zero
from tunit.errors import RunError, StoreError, TrainingError, TunitError
from tunit.files.atomic import UnwritableError
from tunit.machine import to_device
from tunit.methods.descent import are_finite
from tunit.methods.method import Phase
from tunit.methods.model_file import load_model, save_model
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.printing import command
from tunit.training.alarms.watch import Watch
from tunit.training.checkpoint import checkpoint_path, checkpoint_step, save_checkpoint, state_tensors
from tunit.training.logs.log import MetricsLog, ProgressDisplay
from tunit.training.logs.neighbours_found import NEIGHBOURS_BY, in_words
from tunit.training.logs.speed import StepFlops
from tunit.training.logs.window import LossWindow, non_finite
from tunit.training.resources import begin_step
from tunit.training.run_folder import RunFolder
from tunit.training.samples import model_of
from tunit.training.schedule import batch_size_at, phase_at, stream_at

# What the system says if a file cannot be written; other errors may come from reading, too.
UNWRITABLE = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM


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
    # How often the training went back to a checkpoint since it wrote the last one, and the cursors when it last did.
    rolled_back: int = 0
    back_at: dict[str, int] | None = None  # None if it has written a checkpoint since, or never went back
    # Whether the last step is complete, with what the method does after it: only then may the state be saved. A
    # training that resumes after this step would not make up for the rest, such as the final domains.
    complete: bool = True
    # The neighbours with which the batches of the steps in the window were drawn, by the steps' counters.
    neighbours: dict[int, Tensor | None] = field(default_factory=dict)
    announced: set[int] = field(default_factory=set)  # the steps before which the user was told something
    began: str | None = field(init=False)  # when the run began, by its run.json; None if that is unknown

    def __post_init__(self) -> None:
        self.began = _began(self.run)


def _began(run: RunFolder) -> str | None:
    """When a run began; None if its run.json does not say it, or cannot be read."""
    try:
        began = run.read_about().get("began")
    except RunError:
        return None
    return None if began is None else str(began)


def begin_if_new(state: TrainingState, batches: Batches, config: Config) -> None:
    """Let the method prepare a state that has drawn no batch (TUNIT: fill the queue with keys of real pictures)."""
    if state.cursors:
        return
    method = method_of(config)
    if method.begin:
        method.begin(state, batches, config)
    state.cursors = {"all": 0}


def before_step(training: Training) -> None:
    """Let the method do what comes before the next step, and tell the user of what takes long."""
    config, state, pictures = training.config, training.state, training.pictures
    method = method_of(config)
    said = method.announce(state, pictures, config) if method.announce else ""
    # A step comes again after the training went back to a checkpoint; the user has read then what it takes.
    if said and is_rank_zero() and state.step not in training.announced:
        training.announced.add(state.step)
        training.display.say(said)
    if method.before_step:
        method.before_step(state, training.batches, pictures, config)
    begin_step(config)
    found = method.neighbours_by(state) if method.neighbours_by else []
    if found and found != training.watch.neighbours_by:
        tell_measures(training, found)


def tell_measures(training: Training, measures: list[str]) -> None:
    """Tell the user by which measures pictures count as neighbours from the next step on, and write it down."""
    training.watch.neighbours_by = measures
    if training.log:
        step = training.state.step
        check_in_place(training)
        training.log.note({"step": step, NEIGHBOURS_BY: measures})
        training.display.say(
            f"from step {step + 1:,} on, E's neighbours are the nearest pictures by {in_words(measures)}"
        )


def who_learns(phase: Phase, batch: Batch) -> str:
    """The networks that learn in a step, as the progress bar shows them."""
    if phase.joint:
        return "E, G and D learn"
    return "E learns" if phase.learns_domains or batch.any_labelled else "E learns styles"


def draw(training: Training, step: int, cursors: dict[str, int]) -> tuple[Batch, Tensor]:
    """The batch and the permutation of a step (the first step is 0).

    The batch begins at the position of its stream's cursor, and the cursor advances.
    A step that was not checked yet (`Training.window`) can be drawn again, with the same result, even if neighbours
    were searched since.
    """
    config, state = training.config, training.state
    size, counter = batch_size_at(step, config), counter_of_step(step, state.rollbacks)
    batch = training.batches.draw(
        counter,
        size,
        cursors,
        stream_at(step, config),
        neighbours=_neighbours(training, counter),
        both=config.augment.both_views and not phase_at(step, config).joint,
    )
    return batch, to_device(batch_permutation(config.run.seed, counter, size), batch.x.device)


def _neighbours(training: Training, counter: int) -> Tensor | None:
    """The neighbours (N, k) for the step with this counter: those of the first time that it was drawn."""
    kept, method = training.neighbours, method_of(training.config)
    if counter not in kept:
        oldest = counter_of_step(training.window.first - 1, training.state.rollbacks)
        for older in [each for each in kept if each < oldest]:
            del kept[older]
        kept[counter] = method.neighbours(training.state, training.config) if method.neighbours else None
    return kept[counter]


def save_and_explain(training: Training, error: UnwritableError | StoreError | OSError) -> TrainingError:
    """After a file could not be written, or pictures could not be read: try to save a checkpoint, then return the
    error that says how to go on. Only rank 0 saves. Raises TrainingError as `check_in_place`.
    """
    save_if_possible(training)
    last = training.last_checkpoint
    where = f"after step {checkpoint_step(last)}" if last else "from the start (no checkpoint yet)"
    what, remedy = what_and_remedy(error)
    return TrainingError(
        f"{what}: {remedy}, then resume {where} with `{command('train', '--resume', training.run.path)}`"
    )


def save_if_possible(training: Training) -> None:
    """On rank 0: save the state, unless it is saved already, or belongs to no whole step, or cannot be written.

    Raises TrainingError as `check_in_place`.
    """
    check_in_place(training)
    saved = training.last_checkpoint == checkpoint_path(training.run.checkpoints, training.state.step)
    if is_rank_zero() and training.complete and not saved:
        try:
            check_finite(training)
            write_state(training)
        except (TunitError, OSError):
            pass  # earlier checkpoints are undamaged


def what_and_remedy(error: UnwritableError | StoreError | OSError) -> tuple[str, str]:
    """What ended a training, and what helps against it."""
    if isinstance(error, StoreError):
        return error.what, error.remedy
    what = f"training stopped ({error})" if isinstance(error, OSError) else error.what
    if isinstance(error, UnwritableError) or error.errno in UNWRITABLE:
        return what, "free some disk space or make the folder writable"
    return what, "check the disk or network"


def check_in_place(training: Training) -> None:
    """Before something is written: raises TrainingError, on rank 0, if the folder of the run was moved, removed or
    replaced by another run since the training began. It must not be made again.
    """
    run, last = training.run, training.last_checkpoint
    if training.began is None or not is_rank_zero():
        return
    try:
        run.about.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:  # writing will fail, too, and say why
        return
    else:
        if _began(run) in (training.began, None):
            return
    saved = f"its last checkpoint is of step {checkpoint_step(last)}" if last else "it has no checkpoint yet"
    raise TrainingError(
        f"{run.path} was moved or removed while it was trained, so the training has ended at step "
        f"{training.state.step} ({saved}): if it was moved, give its new place to `tunit train --resume`"
    )


def tell_and_save_number_of_domains(training: Training, choice: Choice) -> None:
    """Print the number of domains that was found, write down the reasons, and save the run.

    The config has the number already (`with_found_domains`).
    """
    training.display.say(choice.headline)
    for reason in choice.reasons:
        training.display.say(f"  {reason}")
    if is_rank_zero():
        write_choice_file(training.run.path, choice)
    save(training)  # a resumed run need not choose again


def save(training: Training) -> None:
    """Save a checkpoint and the model for inference.

    Raises NonFiniteError as `check_finite` does.
    """
    check_finite(training)
    on_rank_zero(partial(write_state, training))
    training.last_checkpoint = checkpoint_path(training.run.checkpoints, training.state.step)
    training.rolled_back, training.back_at = 0, None


def check_finite(training: Training) -> None:
    """Raises NonFiniteError if a loss or gradient since the last check, or a value of the state, is not finite.

    Every rank calls this before something is made of the state: a checkpoint, samples, an evaluation, final domains.
    """
    training.window.check(training.last_checkpoint)
    tensors = {k: v for k, v in state_tensors(training.state).items() if v.is_floating_point()}
    if not all(are_finite(group) for group in by_device(tensors.values())):
        name = next(name for name, tensor in tensors.items() if not tensor.isfinite().all())
        raise non_finite(
            f"{name} has a value that is not finite", training.state.step, training.last_checkpoint
        )


def by_device(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """The tensors in groups, one for each device: optimisers count their steps on the CPU, whatever the device of the
    weights, and PyTorch cannot join tensors of two devices.
    """
    groups: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.device, []).append(tensor)
    return groups.values()


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
