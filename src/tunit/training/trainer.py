"""The training loop: pictures -> batch -> step -> log, sample, checkpoint; and how a run starts and resumes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import record_function

from tunit import native
from tunit.clustering.choice import write_choice_file
from tunit.config import AUTO, Config
from tunit.data.batching.batches import Batch, Batches
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import copy_from_rank_zero, is_rank_zero, largest_of_ranks
from tunit.distributed.process_group import on_rank_zero
from tunit.errors import NonFiniteError, StoreError
from tunit.files.atomic import UnwritableError
from tunit.files.paths import expand_home
from tunit.machine import PRECISIONS, is_out_of_memory, reads_at_once
from tunit.methods.checks import check_config, check_labels, check_number_of_pictures, warnings_of
from tunit.methods.descent import watching_gradients
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.training.alarms.watch import Watch, alarm_line, rows_of, watch_of
from tunit.training.checkpoint import drop_older, load_newest
from tunit.training.fine_tuning import copy_guide
from tunit.training.in_progress import (
    Training,
    before_step,
    begin_if_new,
    check_finite,
    check_in_place,
    finish_model,
    save,
    save_and_explain,
    tell_and_save_number_of_domains,
    who_learns,
)
from tunit.training.initial_state import new_state, with_found_domains
from tunit.training.interrupt import Interrupted, StopSignals
from tunit.training.logs.log import MetricsLog, ProgressDisplay
from tunit.training.logs.speed import StepFlops, matrix_rate
from tunit.training.logs.tracking import tracker_of
from tunit.training.logs.window import LossWindow
from tunit.training.memory.fitting import checkpoint_activations, out_of_memory
from tunit.training.next_batch import next_batch
from tunit.training.non_finite import check_pictures, recover
from tunit.training.resources import compile_parts, prepare_machine
from tunit.training.run_folder import RunFolder, check_same_step
from tunit.training.samples import write_samples
from tunit.training.schedule import batch_size_at, phase_at, streams_of
from tunit.training.self_check import check_device

WITHOUT_COMPILER = (
    "tunit was installed without its C code, so steps on a CPU may take twice as long: install a C compiler "
    "(gcc), then reinstall tunit"
)
# How names of the figures of an evaluation begin in the metrics.
MEASURED = "evaluation/"
# Called with the state at regular steps; the values that it returns are added to the metrics of that step. If the log
# has no name that begins with MEASURED at the step at which a run resumes, it is called again.
Evaluate = Callable[[TrainingState], dict[str, float]]


@dataclass
class Ready:
    """The result of `make_ready`: what is built before the first step."""

    device: torch.device
    state: TrainingState
    batches: Batches
    last_checkpoint: Path | None
    warnings: list[str]


def make_ready(config: Config, pictures: PackedPictures, checkpoints: Path | None) -> Ready:
    """Check that a config can train on the pictures, and build state and batches. Writes nothing.

    config: from `resolved` in left_open.py. checkpoints: the folder to resume from; None starts from new weights.
    Raises DataError for too few pictures or labels that do not fit, ConfigError for settings that do not fit,
    RunError if there is no checkpoint that fits.
    """
    check_number_of_pictures(config, len(pictures.names))
    # `resolved` has checked a new run already, also one that begins with a checkpoint of step 0 (--from).
    check_config(config, resumes=checkpoints is not None)
    check_labels(config, pictures.labels, pictures.names)
    method = method_of(config)
    device = prepare_machine(config)
    check_device(device)
    state = new_state(config, device, len(pictures.names))
    if config.run.compile and method.compiled_parts:
        compile_parts(method.compiled_parts(state.networks), device, graphs=config.run.cuda_graphs)
    # After compiling: what is computed again is then compiled code. The compiler does not look into checkpointing.
    if config.run.checkpoint_activations and method.recomputed_parts:
        checkpoint_activations(method.recomputed_parts(state.networks))
    last, warnings = load_newest(checkpoints, state) if checkpoints else (None, [])
    if not checkpoints and config.method.guide_from:
        copy_guide(state, expand_home(config.method.guide_from), config, pictures)
        if method.adopt and pictures.any_labelled:
            on_rank_zero(partial(method.adopt, state, pictures))  # goes to all with the other weights
    if not checkpoints:  # machines of different kinds may have drawn slightly different weights
        copy_from_rank_zero(state.networks.named().values())
    batches = Batches(
        pictures.images,
        pictures.labels,
        config.augment,
        seed=config.run.seed,
        device=device,
        view_side=state.networks.guide.image_size,
    )
    for stream in streams_of(config):
        batches.rows(stream, 0, 1)  # raises DataError where the stream is empty
    begin_if_new(state, batches, config)
    # A new run that begins with the networks of another one (--from) loads a checkpoint of step 0.
    warnings = [*warnings, *warnings_of(config, resumes=state.step > 0, labels=pictures.labels)]
    if device.type == "cpu" and native.is_missing():
        warnings = [*warnings, WITHOUT_COMPILER]
    return Ready(device, state, batches, last, warnings)


def train(
    config: Config,
    run: RunFolder,
    pictures: PackedPictures,
    *,
    resume: bool = False,
    ready: Ready | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    quiet: bool = False,
    log_to: str = "",
) -> TrainingState:
    """Train to the end of the schedule, in a folder that `begin_run` has written. Returns the final state.

    resume: the folder holds checkpoints. config: as for `make_ready`. ready: from `make_ready`, if it was called.
    log_to: as in `start_run`. Every rank calls this; only rank 0 writes and prints. Raises the errors of
    `make_ready`; TrainingError for a loss that is not finite, and if memory or disk space runs out; Interrupted at a
    signal, after a checkpoint.
    """
    ready = ready or make_ready(config, pictures, run.checkpoints if resume else None)
    state, last = ready.state, ready.last_checkpoint
    check_same_step(run, state.step)
    config = with_found_domains(config, state)
    last = last and run.checkpoints / last.name  # the folder may have been moved since `make_ready`
    display = ProgressDisplay(config.schedule.steps, state.step, quiet=quiet)
    log = MetricsLog(run.path, state.step, tracker_of(log_to, run.path, config)) if is_rank_zero() else None
    rate = partial(matrix_rate, ready.device, PRECISIONS[config.run.precision])
    window = LossWindow(state.step, rate)
    flops = StepFlops(countable=is_rank_zero() and not config.run.compile)
    watch = watch_of(run, pictures) if log else Watch(pictures)
    display.alarms = watch.short
    training = Training(config, run, pictures, ready.batches, state, log, display, window, flops, watch, last)
    if state.choice and is_rank_zero():
        write_choice_file(run.path, state.choice)  # a killed process may have left none, or an older one
    with display, StopSignals() as signals:
        for warning in ready.warnings if is_rank_zero() else ():
            display.say(f"warning: {warning}", even_if_quiet=warning != WITHOUT_COMPILER)
        try:
            run_steps(training, signals, evaluate, evaluate_every)
        except (UnwritableError, StoreError, OSError) as error:
            raise save_and_explain(training, error) from None
        finally:
            if training.log:
                training.log.close()
    return state


def run_steps(
    training: Training, signals: StopSignals, evaluate: Evaluate | None, evaluate_every: int
) -> None:
    """Take the steps from the state's step to the end of the schedule."""
    state, run = training.state, training.config.run
    if training.last_checkpoint and is_rank_zero():
        # A process that was killed while it saved may have left one too many.
        drop_older(training.last_checkpoint, run.keep_checkpoints)
    if state.step >= training.config.schedule.steps and is_rank_zero():
        finish_model(training)
    if run.on_nan == "rollback" and training.last_checkpoint is None:
        save(training)  # a rollback needs a checkpoint
    if state.step and is_evaluation_due(training, evaluate_every):
        on_rank_zero(partial(measure_if_missed, training, evaluate))
    while state.step < training.config.schedule.steps:
        number_unknown = training.config.networks.domains == AUTO
        try:
            one_step(training)
            if number_unknown and state.choice:
                tell_and_save_number_of_domains(training, state.choice)
            do_what_is_due(training, signals, evaluate, evaluate_every)
        except NonFiniteError as error:
            recover(training, error)


def do_what_is_due(
    training: Training, signals: StopSignals, evaluate: Evaluate | None, evaluate_every: int
) -> None:
    """Whatever is due after a step: a line of metrics, an evaluation, samples, a checkpoint, the end."""
    settings, state = training.config.run, training.state
    received = largest_of_ranks(signals.received or 0)  # all ranks must stop after the same step
    done = state.step == training.config.schedule.steps
    begins = state.step == training.config.schedule.guide_only_until  # G and D start now
    evaluate_now = is_evaluation_due(training, evaluate_every)
    draw_samples = done or (settings.sample_every and state.step % settings.sample_every == 0)
    log_now = done or state.step % settings.log_every == 0
    save_now = done or state.step % settings.checkpoint_every == 0 or received
    if begins or evaluate_now or draw_samples or log_now or save_now:
        check_in_place(training)
    if begins or evaluate_now or draw_samples:
        check_finite(training)
    if log_now:
        means = training.window.flush(state.step, training.last_checkpoint)
        write_line(training, means, at_once=done or begins)
    elif begins:
        write_line(training, {}, at_once=True)
    if draw_samples:
        on_rank_zero(partial(write_samples, training.run.samples, state, training.pictures, training.config))
    if save_now:
        save(training)
    if evaluate_now:  # after the checkpoint, which must not be lost if it fails
        on_rank_zero(partial(measure, training, evaluate))
    if received and not done:
        raise Interrupted(received, training.run.path, state.step)


def is_evaluation_due(training: Training, every: int) -> bool:
    """Whether the model is measured after the state's step: every so many steps (0: never), and after the last."""
    step = training.state.step
    return every > 0 and (step == training.config.schedule.steps or step % every == 0)


def measure_if_missed(training: Training, evaluate: Evaluate | None) -> None:
    """Make up for an evaluation of the step at which the run resumes, if the log has none: it was interrupted."""
    rows = rows_of(training.log.path) if training.log and evaluate else []
    at_step = [row for row in rows if row.get("step") == training.state.step]
    if not any(name.startswith(MEASURED) for row in at_step for name in row):
        measure(training, evaluate)


def measure(training: Training, evaluate: Evaluate | None) -> None:
    """Add the figures that `evaluate` returns for the state to the metrics."""
    if training.log and evaluate:
        training.log.write(training.state.step, evaluate(training.state))


def one_step(training: Training, given: tuple[Batch, Tensor] | None = None) -> None:
    """Draw a batch, take the step, record its losses. If it searched for neighbours, a row of the log may say so.

    given: a batch and a permutation to use instead of new ones. Raises NonFiniteError if something is not finite; on
    a GPU, a later check raises it. Raises TrainingError if the step does not fit the memory, or the run was moved.
    """
    config, state, step = training.config, training.state, training.state.step
    method = method_of(config)
    training.complete = True  # the step before, or, after a rollback, that of the checkpoint
    before_step(training)
    size, phase, cursors = batch_size_at(step, config), phase_at(step, config), dict(state.cursors)
    with record_function("data"):
        batch, permutation = given or next_batch(training)
    training.newest = batch, permutation
    check_pictures(training)
    training.complete = False
    try:
        with training.flops.counting(phase, size), watching_gradients() as checked:
            terms = method.step(state, batch, permutation, phase, config)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        error.__traceback__ = None  # the traceback keeps the step's tensors alive
        raise out_of_memory(config, batch.x.device, size, joint=phase.joint) from None
    names = {id(optimiser): name for name, optimiser in state.optimisers.named().items()}
    finite: dict[str, Tensor] = {}
    for optimiser, flag in checked:  # E's optimiser takes two steps in one joint step
        name = names.get(id(optimiser), "a network")
        finite[name] = flag & finite[name] if name in finite else flag
    training.window.add(terms, size, training.flops.of(phase, size), finite, cursors)
    if reads_at_once(batch.x.device):
        training.window.check(training.last_checkpoint)
    elif state.step == config.schedule.guide_only_until:  # the method may now decide the final domains
        check_finite(training)
    if method.after_step:
        method.after_step(state, training.batches, training.pictures, config)
    training.complete = True
    training.config = with_found_domains(config, state)
    losses = training.window.latest() if training.display.wants_losses() else None
    training.display.show(state.step, who_learns(phase, batch), losses)


def write_line(training: Training, means: dict[str, float], *, at_once: bool) -> None:
    """Write a line of metrics, and print and log alarms that begin or end.

    At intervals, or if `at_once`, the line also contains figures of E's output and of a few translations (`Watch`).
    """
    if not training.log:
        return
    step, watch = training.state.step, training.watch
    for figures in (watch.output_figures, watch.translation_figures):
        means = means | figures(training.state, training.config, at_once=at_once)
    if means:
        training.log.write(step, means)
    for row in watch.judge(step, means, training.config, chosen=training.state.choice is not None):
        training.log.note(row)
        if "alarm" in row:
            training.display.say(alarm_line(row), even_if_quiet="over" not in row)
    training.display.alarms = watch.short
