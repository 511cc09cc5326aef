"""Repeat a step whose batch was kept because a value was not finite. The run itself is not changed."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from tunit.data.batching.batches import make_batch
from tunit.errors import NonFiniteError, RunError
from tunit.files.paths import expand_home
from tunit.files.reading import Record, UnreadableError
from tunit.machine import to_device
from tunit.networks.tensor_file import read_tensors
from tunit.printing import show
from tunit.training.alarms.watch import Watch
from tunit.training.checkpoint import MOST_ROLLBACKS, MOST_STEPS, fill_state, fit_domains_and_check
from tunit.training.in_progress import Training, begin_if_new
from tunit.training.initial_state import with_found_domains
from tunit.training.logs.log import ProgressDisplay
from tunit.training.logs.speed import StepFlops
from tunit.training.logs.window import LossWindow
from tunit.training.non_finite import checkpoint_of
from tunit.training.preparation import pictures_of_run
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import make_ready, one_step


def replay(file: Path) -> bool:
    """Repeat the step of a kept batch in this process, and print the result. Returns whether it is not finite again.

    The steps after the last checkpoint are repeated with the same pictures and random numbers as then, even if the
    training had gone back to this checkpoint. Then the step itself is repeated, with the kept batch. Raises RunError
    if the file is not a batch that training has kept.
    """
    file = expand_home(file).with_suffix(".safetensors")
    tensors, about = read_tensors(file)
    try:
        step, rollbacks, cursors = _noted(Record(about))
    except UnreadableError as error:
        raise RunError(
            f"{file} is not a batch that training has kept ({error}): give one of RUN/non_finite"
        ) from None
    run = RunFolder(file.resolve().parent.parent)
    config = run.read_config()
    _check_batch(file, tensors, config.data.image_size, config.guide_side)
    training = _before(run, checkpoint_of(file) if checkpoint_of(file).is_file() else None)
    training.state.rollbacks = max(rollbacks, training.state.rollbacks)
    training.state.cursors |= cursors
    begun = training.state.step
    while training.state.step < step - 1:
        one_step(training)
    device = training.state.queue.device
    x, x_plus = tensors["x"].to(device), tensors["x_plus"].to(device)
    batch = make_batch(x, x_plus, tensors["y"], tensors.get("index"))
    show(f"step {step} of {run.path}, reached from step {begun}: {about.get('what')}")
    is_finite = False
    try:
        one_step(training, (batch, to_device(tensors["permutation"], device)))
        training.window.check(None)
        is_finite = True
    except NonFiniteError as error:
        show(f"repeated: {error.what}")
    for name, value in training.window.latest().items():
        if not name.startswith("speed/"):
            show(f"  {name} {value:.6g}")
    if is_finite:
        show("repeated: every loss and gradient is finite")
    return not is_finite


def _noted(about: Record) -> tuple[int, int, dict[str, int]]:
    """What is noted with a kept batch: (the number of its step, how often training had gone back to a checkpoint
    before, cursors). Raises UnreadableError.

    The cursors are those with which training went on after it had gone back to the last checkpoint. There are none if
    it had not gone back since it wrote that checkpoint: then those in the checkpoint are right.
    """
    step = about.whole("step", 1, MOST_STEPS)
    rollbacks = about.whole("rollbacks", high=MOST_ROLLBACKS) if "rollbacks" in about.values else 0
    if "cursors" not in about.values:  # it had not gone back, or an older version kept the batch
        return step, rollbacks, {}
    cursors = about.record("cursors")
    return step, rollbacks, {stream: cursors.whole(stream) for stream in cursors.values}


def _check_batch(file: Path, tensors: Mapping[str, Tensor], side: int, view_side: int) -> None:
    """Raises RunError unless `tensors` are a batch such as training keeps: of pictures with `side` pixels, or random
    views with `view_side` pixels.
    """
    number = len(tensors["y"]) if "y" in tensors and tensors["y"].dim() else 0
    pictures: list[tuple[int, ...]] = [(number, 3, pixels, pixels) for pixels in (side, view_side)]
    numbers: list[tuple[int, ...]] = [(number,)]
    expected = {"x": pictures, "x_plus": pictures, "y": numbers, "permutation": numbers}
    expected |= {"index": numbers} if "index" in tensors else {}
    for name, shapes in expected.items():
        found = tensors.get(name)
        if found is None or found.shape not in shapes or found.is_floating_point() != (shapes is pictures):
            what = "missing" if found is None else f"{tuple(found.shape)} of {found.dtype}"
            raise RunError(
                f"{file} is not a batch that training has kept (its {name} is {what}): give one of RUN/non_finite"
            )
    if sorted(tensors["permutation"].tolist()) != list(range(number)):
        raise RunError(
            f"{file} is not a batch that training has kept (its permutation lacks some pictures): give one "
            "of RUN/non_finite"
        )


def _before(run: RunFolder, checkpoint: Path | None) -> Training:
    """A training in this process alone, in the state of a checkpoint; without a checkpoint, in its initial state."""
    # All weights come from the checkpoint, so the E of another run, with which this one began, is not needed.
    origin = {} if checkpoint is None else {"guide_from": ""}
    config = resolve_machine(run.read_config().with_overrides({"processes": 1} | origin))
    pictures = pictures_of_run(run)
    ready = make_ready(config, pictures, None)
    state = ready.state
    if checkpoint is not None:
        tensors, about = read_tensors(
            checkpoint, partial(fit_domains_and_check, state, state.networks.guide.domains)
        )
        fill_state(state, tensors, about, checkpoint)
        begin_if_new(state, ready.batches, config)
    return Training(
        with_found_domains(config, state),
        run,
        pictures,
        ready.batches,
        state,
        None,
        ProgressDisplay(config.schedule.steps, state.step, quiet=True),
        LossWindow(state.step),
        StepFlops(countable=False),
        Watch(pictures),
        checkpoint,
    )
