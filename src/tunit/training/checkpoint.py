"""Checkpoints: the whole training state in one safetensors file, written atomically, the last few kept."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunit.errors import RunError
from tunit.networks.tensor_file import read_tensors, write_tensors
from tunit.training.state import TrainingState

FORMAT = 1


def save_checkpoint(folder: Path, state: TrainingState, keep: int) -> Path:
    """Write `folder`/step_NNNNNNNN.safetensors and drop all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state.step:08d}.safetensors"
    about = {"format": FORMAT, "step": state.step, "cursors": state.cursors}
    write_tensors(path, state_tensors(state), about)
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(p for p in folder.glob("step_*.safetensors") if re.fullmatch(r"step_\d+", p.stem))


def load_newest(folder: Path, state: TrainingState) -> tuple[Path, list[str]]:
    """Fill `state` from the newest checkpoint that is whole; returns its path and a warning per damaged one.

    Raises RunError where there is none to go on from.
    """
    warnings: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            tensors, about = read_tensors(path)
        except RunError as error:
            warnings.append(f"{error}; going back to the checkpoint before")
            continue
        fill_state(state, tensors, about, path)
        return path, warnings
    reasons = f" ({'; '.join(warnings)})" if warnings else ""
    raise RunError(
        f"{folder} holds no checkpoint to resume from{reasons}: start the run again with --overwrite"
    )


def state_tensors(state: TrainingState) -> dict[str, Tensor]:
    """Every tensor of the state by name: NETWORK.TENSOR, optimiser.NETWORK.PARAMETER.MOMENT, queue, soft_labels.*."""
    tensors = {"queue": state.queue} | _soft_labels_of(state)
    networks = state.networks.named()
    for name, network in networks.items():
        tensors |= {f"{name}.{k}": v for k, v in network.state_dict().items()}
    for name, optimiser in state.optimisers.named().items():
        moments = optimiser.state_dict()["state"]
        for index, (parameter, _) in enumerate(networks[name].named_parameters()):
            for moment, value in moments.get(index, {}).items():
                tensors[f"optimiser.{name}.{parameter}.{moment}"] = torch.as_tensor(value)
    return tensors


def _soft_labels_of(state: TrainingState) -> dict[str, Tensor]:
    named = state.soft_labels.named() if state.soft_labels else {}
    return {f"soft_labels.{name}": tensor for name, tensor in named.items()}


def fill_state(state: TrainingState, tensors: dict[str, Tensor], about: dict[str, Any], source: Path) -> None:
    """Fill `state` with tensors named as by `state_tensors`.

    Raises RunError naming the first tensors that are missing, unexpected, or of another shape.
    """
    networks = state.networks.named()
    expected = {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}
    expected |= {"queue": state.queue} | _soft_labels_of(state)
    found = {k for k in tensors if not k.startswith("optimiser.")}
    wrong = [f"{k} is missing" for k in sorted(expected.keys() - found)]
    wrong += [f"{k} is unexpected" for k in sorted(found - expected.keys())]
    wrong += [
        f"{k} is {tuple(tensors[k].shape)} where {tuple(v.shape)} is expected"
        for k, v in expected.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RunError(f"{source} does not fit the run's config: {'; '.join(wrong[:3])}{more}")
    for name, network in networks.items():
        network.load_state_dict({k: tensors[f"{name}.{k}"] for k in network.state_dict()})
    for name, optimiser in state.optimisers.named().items():
        saved = optimiser.state_dict()
        saved["state"] = {}
        for index, (parameter, _) in enumerate(networks[name].named_parameters()):
            prefix = f"optimiser.{name}.{parameter}."
            moments = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if moments:
                saved["state"][index] = moments
        optimiser.load_state_dict(saved)
    state.queue = tensors["queue"].to(state.queue.device)
    for name, tensor in _soft_labels_of(state).items():
        tensor.copy_(tensors[name])
    state.step, state.cursors = int(about["step"]), dict(about["cursors"])
