"""Convert the optimisers of a published checkpoint to those of a run and back.

PyTorch stores the moments of a parameter under the parameter's number. In D, the published order of parameters is not
ours.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tunit.config import OptimiserConfig
from tunit.printing import shown
from tunit.released.misfits import description_of, fits
from tunit.released.tensor_names import published_names, published_order, published_shapes

Tensors = dict[str, Tensor]

# The network that an optimiser trains -> the published key of the optimiser, and the names of its state's values.
OPTIMISERS = {"guide": "c_optimizer", "discriminator": "d_optimizer", "generator": "g_optimizer"}
MOMENTS = {
    "guide": ("step", "exp_avg", "exp_avg_sq"),
    "discriminator": ("step", "square_avg"),
    "generator": ("step", "square_avg"),
}
MOST_STEPS = 2**53  # larger numbers may not be exact as floats
# The settings that published optimisers record: name there -> our setting.
RECORDED = {
    "guide": {"lr": "guide_rate", "betas": "guide_betas", "weight_decay": "guide_weight_decay"},
    "discriminator": {"lr": "discriminator_rate"},
    "generator": {
        "lr": "generator_rate",
        "alpha": "rmsprop_alpha",
        "eps": "rmsprop_eps",
        "weight_decay": "weight_decay",
    },
}


def moments_of(saved: Any, ours: str, network: nn.Module, key: str) -> tuple[Tensors, list[str]]:
    """The optimiser's state by our names of the parameters, and what is wrong with it."""
    if not _is_state(saved):
        return {}, [f"{key} is not the state of an optimiser"]
    state = saved["state"]
    order = [place for group in saved["param_groups"] for place in group["params"]]
    places = set(order)
    parameters = dict(network.named_parameters())
    names = [name for name in published_order(network) if name in parameters]
    if len(order) != len(names):
        return {}, [f"{key} is of {len(order)} parameters where {len(names)} are expected"]
    theirs, shapes = published_names(network), published_shapes(network)
    problems = [f"{key} state {shown(k)} is unexpected" for k in state if k not in places]
    tensors: Tensors = {}
    for name, place in zip(names, order, strict=True):
        if place not in state:
            continue  # this parameter has had no gradient yet
        if not isinstance(state[place], Mapping) or state[place].keys() != set(MOMENTS[ours]):
            problems.append(f"{key} of {theirs[name]} holds {description_of(state[place])}")
            continue
        for moment, value in state[place].items():
            if isinstance(value, int) and 0 <= value <= MOST_STEPS:
                value = torch.tensor(float(value))  # before PyTorch 1.12 the step was a number
            shape = () if moment == "step" else shapes[theirs[name]]
            if not fits(value, shape):
                problems.append(
                    f"{key} {moment} of {theirs[name]} is {description_of(value)} where {shape} is expected"
                )
                continue
            own_shape = () if moment == "step" else parameters[name].shape
            tensors[f"optimiser.{ours}.{name}.{moment}"] = value.float().reshape(own_shape)
    return tensors, problems


def _is_state(saved: Any) -> bool:
    """Whether something has the structure of a PyTorch optimiser's state."""
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
        return False
    groups = saved.get("param_groups")
    if not isinstance(groups, list) or not groups:
        return False
    lists = [group.get("params") if isinstance(group, Mapping) else None for group in groups]
    return all(isinstance(places, list) and all(type(p) is int for p in places) for places in lists)


def published_optimiser(
    tensors: Tensors, ours: str, network: nn.Module, settings: OptimiserConfig
) -> dict[str, Any]:
    """The state of a PyTorch optimiser, with parameters in the published order and shapes."""
    parameters = dict(network.named_parameters())
    names = [name for name in published_order(network) if name in parameters]
    theirs, shapes = published_names(network), published_shapes(network)
    state: dict[int, Tensors] = {}
    for place, name in enumerate(names):
        own = {m: tensors.get(f"optimiser.{ours}.{name}.{m}") for m in MOMENTS[ours]}
        moments = {
            m: v if m == "step" else v.reshape(shapes[theirs[name]]) for m, v in own.items() if v is not None
        }
        if moments:
            state[place] = moments
    options: dict[str, Any] = {k: getattr(settings, setting) for k, setting in RECORDED["generator"].items()}
    options |= {"momentum": 0, "centered": False}
    if ours == "guide":
        options = {"eps": 1e-8, "amsgrad": False}
    options |= {k: getattr(settings, setting) for k, setting in RECORDED[ours].items()}
    return {"state": state, "param_groups": [options | {"params": list(range(len(names)))}]}
