"""If a picture, loss or gradient is not finite: keep the batch, then stop or go back to the last checkpoint.

All ranks come to the same decision: they exchange whether their pictures are finite, losses are of the whole batch,
and gradients are summed over ranks. On a CPU every step is checked before weights and EMAs change. On a GPU such a
check would have to wait, so values are checked only before anything is made of them: a line of metrics, a checkpoint,
samples, an evaluation, the final domains. If a check fails, the training since the last checkpoint is thrown away.
"""

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from tunit.distributed.collectives import all_gather, is_rank_zero, largest_of_ranks, without_process_group
from tunit.distributed.process_group import on_rank_zero
from tunit.errors import NonFiniteError, TrainingError
from tunit.files.atomic import writable, write_text
from tunit.machine import reads_at_once
from tunit.networks.tensor_file import write_tensors
from tunit.training.alarms.watch import watch_of
from tunit.training.checkpoint import load_newest
from tunit.training.in_progress import Training, begin_if_new, draw
from tunit.training.logs.window import non_finite
from tunit.training.run_folder import check_same_step

FOLDER = "non_finite"  # in the run
MOST_IN_A_ROW = 3  # rollbacks without a new checkpoint between them


def check_pictures(training: Training) -> None:
    """Raises NonFiniteError, on every rank, if a picture of the newest batch has a value that is not finite.

    On a GPU nothing is checked here: the check would have to wait for the GPU, and the losses will show it later.
    """
    assert training.newest is not None
    batch = training.newest[0]
    if not reads_at_once(batch.x.device):
        return
    wrong = not (batch.x_plus.isfinite().all() and batch.x.isfinite().all())
    if largest_of_ranks(int(wrong)):
        step = training.state.step + 1
        error = non_finite(
            "a picture of the batch has a value that is not finite", step, training.last_checkpoint
        )
        error.step_not_taken = True
        raise error


def recover(training: Training, error: NonFiniteError) -> None:
    """Keep the batch; then stop, or go back to the last checkpoint, as the config says.

    Raises TrainingError to stop, or if training already went back MOST_IN_A_ROW times without reaching a new
    checkpoint.
    """
    kept = keep_batch(training, error)
    told = f"the batch of that step is in {kept} (`tunit train --replay` repeats the step)"
    if training.config.run.on_nan == "stop":
        raise TrainingError(f"{error}; {told}")
    training.rolled_back += 1
    if training.rolled_back > MOST_IN_A_ROW:
        raise TrainingError(
            f"{error.what} at step {error.step}; training went back to {training.last_checkpoint} {MOST_IN_A_ROW} "
            "times, with other random numbers, and the problem came back each time: resume with --precision float32, "
            "or start a new run with lower --guide-rate, --generator-rate and --discriminator-rate; " + told
        )
    roll_back(training)
    training.display.say(
        f"{error.what} at step {error.step}: back to step {training.state.step}, with other random numbers from "
        f"there on ({training.rolled_back} of at most {MOST_IN_A_ROW} times in a row); {told}",
        even_if_quiet=is_rank_zero(),
    )


def roll_back(training: Training) -> None:
    """Fill the state from the newest good checkpoint. The pictures drawn since then are not drawn again.

    If the number of domains was found after that checkpoint, it will be found again.
    """
    state, as_begun = training.state, training.run.read_config().networks
    cursors, rollbacks = dict(state.cursors), state.rollbacks
    training.last_checkpoint, warnings = load_newest(
        training.run.checkpoints, state, as_begun.initial_domains
    )
    check_same_step(training.run, state.step)
    for warning in warnings:
        training.display.say(f"warning: {warning}", even_if_quiet=is_rank_zero())
    if state.choice is None:
        training.config = training.config.with_overrides({"domains": as_begun.domains})
    begin_if_new(state, training.batches, training.config)
    state.rollbacks = max(rollbacks, state.rollbacks) + 1
    state.cursors = {
        name: max(cursors.get(name, 0), state.cursors.get(name, 0)) for name in cursors | state.cursors
    }
    training.back_at = dict(state.cursors)
    training.window.restart(state.step)
    if training.log:
        training.log.go_back(state.step)
        training.watch = watch_of(training.run, training.pictures)


def keep_batch(training: Training, error: NonFiniteError) -> Path:
    """Write the whole batch of a step, and all that is needed to repeat the step, into the run. Returns its file."""
    step = error.step - 1
    state, config = training.state, training.config
    held = training.newest
    step_of_held = state.step if error.step_not_taken else state.step - 1
    if held is None or step != step_of_held:
        with without_process_group():
            held = draw(training, step, training.window.cursors_at(error.step))
        x, x_plus = held[0].x, held[0].x_plus
    else:
        x, x_plus = all_gather(held[0].x), all_gather(held[0].x_plus)
    batch, permutation = held
    tensors = {"x": x, "x_plus": x_plus, "y": batch.y, "permutation": permutation}
    names: list[str] = []
    if batch.index is not None:
        tensors["index"] = batch.index
        names = [training.pictures.names[i] for i in batch.index.tolist()]
    about = {
        "what": error.what,
        "step": error.step,
        "seed": config.run.seed,
        "rollbacks": state.rollbacks,
        "checkpoint": training.last_checkpoint.name if training.last_checkpoint else None,
        "pictures": names,
    }
    if training.back_at is not None:  # the cursors in the checkpoint are older than these
        about["cursors"] = training.back_at
    path = training.run.path / FOLDER / f"step_{error.step:08d}_{state.rollbacks}.safetensors"
    on_rank_zero(partial(_write, path, tensors, about, training.last_checkpoint))
    return path


def _write(
    path: Path, tensors: dict[str, Tensor], about: dict[str, Any], last_checkpoint: Path | None
) -> None:
    with writable(path):
        path.parent.mkdir(exist_ok=True)
    write_tensors(path, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, about)
    write_text(path.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    if last_checkpoint is not None:  # keep a link to it, because the run itself will delete it
        kept = checkpoint_of(path)
        with writable(kept):
            kept.unlink(missing_ok=True)
            try:
                os.link(last_checkpoint, kept)
            except OSError:  # another file system, or one without links
                shutil.copyfile(last_checkpoint, kept)


def checkpoint_of(path: Path) -> Path:
    """The checkpoint from which the step of a kept batch was reached."""
    return path.with_suffix(".checkpoint")
