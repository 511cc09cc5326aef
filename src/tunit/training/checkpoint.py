"""Checkpoints: the whole training state in one safetensors file, written atomically, the last few kept."""

import re
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunit.clustering.choice import Choice, read_choice
from tunit.data.batching.randomness import CounterStart
from tunit.errors import RunError
from tunit.files.atomic import writable
from tunit.files.reading import Record, UnreadableError
from tunit.methods.state import TrainingState
from tunit.networks.tensor_file import Kinds, check_kinds, kinds_of, read_about, read_tensors, write_tensors

FORMAT = 1
MOST_ROLLBACKS = 2**16
# The number of a step seeds its random draws, and FIRST_KEYS is the first number that seeds other draws.
MOST_STEPS = CounterStart.FIRST_KEYS - 1


def save_checkpoint(folder: Path, state: TrainingState, keep: int) -> Path:
    """Write `folder`/step_NNNNNNNN.safetensors and drop all but the newest `keep`. Returns the new file's path."""
    path = checkpoint_path(folder, state.step)
    with writable(path):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = state_tensors(state)
    about = {"format": FORMAT, "step": state.step, "cursors": state.cursors, "tensors": len(tensors)}
    if state.rollbacks:
        about["rollbacks"] = state.rollbacks
    if state.choice:
        about["choice"] = state.choice.record()
    write_tensors(path, tensors, about)
    drop_older(path, keep)
    return path


def drop_older(newest: Path, keep: int) -> None:
    """Remove older checkpoints of the folder, so that `keep` of them, up to `newest`, are left.

    `newest` is complete. Files of later steps stay: they are damaged, or were written before a rollback, and the
    training will replace them.
    """
    until = [path for path in checkpoints(newest.parent) if checkpoint_step(path) <= checkpoint_step(newest)]
    with writable(newest):
        for old in until[:-keep]:
            old.unlink()


def checkpoint_path(folder: Path, step: int) -> Path:
    """The path of a step's checkpoint."""
    return folder / f"step_{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    found = (p for p in folder.glob("step_*.safetensors") if re.fullmatch(r"step_[0-9]{8,16}", p.stem))
    return sorted(found, key=checkpoint_step)


def checkpoint_step(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.stem.removeprefix("step_"))


def load_newest(folder: Path, state: TrainingState, initial_domains: int = 0) -> tuple[Path, list[str]]:
    """Fill `state` from the newest checkpoint that is undamaged and fits.

    initial_domains: how many domains E has before their number is found; by default as many as it has now.
    Returns its path, and a warning for each checkpoint that was skipped. If the checkpoint records how many domains
    were found, E and D get that many. Raises RunError if no checkpoint can be used.
    """
    warnings: list[str] = []
    initial_domains = initial_domains or state.networks.guide.domains
    for path in reversed(checkpoints(folder)):
        try:
            tensors, about = read_tensors(path, partial(fit_domains_and_check, state, initial_domains))
        except RunError as error:
            warnings.append(f"{error}; going back to the checkpoint before")
            continue
        fill_state(state, tensors, about, path)
        return path, warnings
    reasons = f" ({'; '.join(warnings)})" if warnings else ""
    raise RunError(
        f"{folder} holds no checkpoint to resume from{reasons}: start the run again with --overwrite"
    )


def newest_choice(folder: Path) -> Choice | None:
    """The number of domains that was found, from the newest readable checkpoint in a folder; None if it has none."""
    for path in reversed(checkpoints(folder)):
        try:
            about = read_about(path)
            return _choice_of(about)
        except (RunError, UnreadableError):
            continue
    return None


def _choice_of(about: Record) -> Choice | None:
    return read_choice(about.record("choice")) if "choice" in about.values else None


def fit_domains_and_check(state: TrainingState, initial_domains: int, about: Record, found: Kinds) -> None:
    """Give the state as many domains as a checkpoint has, and check that the checkpoint fits the state's networks.

    initial_domains: how many domains E has before their number is found. Raises UnreadableError if it does not fit.
    """
    about.whole("format", FORMAT, FORMAT)
    about.whole("step", high=MOST_STEPS)
    cursors = about.record("cursors")
    for stream in cursors.values:
        cursors.whole(stream)
    if "rollbacks" in about.values:
        about.whole("rollbacks", high=MOST_ROLLBACKS)
    choice = _choice_of(about)
    domains = choice.domains if choice else initial_domains
    if domains != state.networks.guide.domains:
        state.set_domains(domains)
    if "tensors" in about.values:  # not written by development versions before 0.1.0
        about.whole("tensors", len(found), len(found))
    check_kinds(found, _expected(state, found.keys()))


def _expected(state: TrainingState, found: Container[str]) -> dict[str, Tensor]:
    """Every tensor that a checkpoint must hold, by name; only shapes and dtypes of the values matter.

    An optimiser has no moments for a parameter that never had a gradient. If `found` has one moment of a parameter,
    all of its moments are expected.
    """
    networks = state.networks.named()
    expected = {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}
    expected |= {"queue": state.queue} | state.own_tensors()
    for name, optimiser in state.optimisers.named().items():
        kept = _kept_by(optimiser)
        for parameter, weight in networks[name].named_parameters():
            prefix = f"optimiser.{name}.{parameter}."
            moments = {prefix + m: weight if value.dim() else value for m, value in kept.items()}
            if any(moment in found for moment in moments):
                expected |= moments
    return expected


def _kept_by(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and scalars that an optimiser of this class keeps for a parameter of shape (1,)."""
    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.zeros(1)
    kind: Any = type(optimiser)
    twin = kind([parameter], **optimiser.defaults)
    twin.step()
    return {m: value for m, value in twin.state[parameter].items() if torch.is_tensor(value)}


def state_tensors(state: TrainingState) -> dict[str, Tensor]:
    """Every tensor of the state by name: NETWORK.TENSOR, optimiser.NETWORK.PARAMETER.MOMENT, queue, the method's
    own.
    """
    tensors = {"queue": state.queue} | state.own_tensors()
    networks = state.networks.named()
    for name, network in networks.items():
        tensors |= {f"{name}.{k}": v for k, v in network.state_dict().items()}
    for name, optimiser in state.optimisers.named().items():
        moments = optimiser.state_dict()["state"]
        for index, (parameter, _) in enumerate(networks[name].named_parameters()):
            for moment, value in moments.get(index, {}).items():
                tensors[f"optimiser.{name}.{parameter}.{moment}"] = torch.as_tensor(value)
    return tensors


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """A moment of a weight with the weight's memory layout (channels last), which a file does not keep.

    PyTorch's optimisers update all weights together only if the layouts agree; if not, each weight by itself, which
    takes a GPU one launch of a kernel for each operation on each weight.
    """
    # The number of steps has no dimensions and stays on the CPU.
    return torch.empty_like(weight).copy_(value) if value.dim() and value.shape == weight.shape else value


def fill_state(state: TrainingState, tensors: dict[str, Tensor], about: dict[str, Any], source: Path) -> None:
    """Fill `state` with tensors named as by `state_tensors`; if they do not fit, nothing is changed.

    Raises RunError naming the first tensors that are missing, unexpected, or of another shape or dtype.
    """
    try:
        check_kinds(kinds_of(tensors), _expected(state, tensors.keys()))
    except UnreadableError as error:
        raise RunError(f"{source} cannot be used: {error}") from None
    networks = state.networks.named()
    for name, network in networks.items():
        network.load_state_dict({k: tensors[f"{name}.{k}"] for k in network.state_dict()})
    moments: dict[str, dict[str, Tensor]] = {}  # by optimiser.NETWORK.PARAMETER, then by their own name
    for name, tensor in tensors.items():
        of, _, moment = name.rpartition(".")
        moments.setdefault(of, {})[moment] = tensor
    for name, optimiser in state.optimisers.named().items():
        saved = optimiser.state_dict()
        saved["state"] = {
            i: {moment: _laid_out_as(weight, value) for moment, value in moments[of].items()}
            for i, (parameter, weight) in enumerate(networks[name].named_parameters())
            if (of := f"optimiser.{name}.{parameter}") in moments
        }
        optimiser.load_state_dict(saved)
    state.queue = tensors["queue"].to(state.queue.device)
    for name, tensor in state.own_tensors().items():
        tensor.copy_(tensors[name])
    state.step, state.cursors = int(about["step"]), dict(about["cursors"])
    state.rollbacks = int(about.get("rollbacks", 0))
    state.choice = _choice_of(Record(about))
