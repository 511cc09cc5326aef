"""Convert a published checkpoint to the tensors of a run's checkpoint, and back: names, order, shapes.

Both are plain dicts here. A published checkpoint holds E, G and D, the EMAs of E and G, and the state of three
optimisers. It has no key queue. It also holds an Inception network, which is not needed here.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tunit.config import Config, NetworkConfig
from tunit.errors import ConfigError, RunError
from tunit.methods.tunit import TUNIT
from tunit.networks.generator import CONTENT_SIZE, default_width
from tunit.networks.only_shapes import only_shapes
from tunit.released.misfits import description_of, fits, misfit
from tunit.released.moments import (
    OPTIMISERS,
    RECORDED,
    Tensors,
    moments_of,
    published_optimiser,
)
from tunit.released.tensor_names import (
    is_adain_statistic,
    published_names,
    published_shapes,
)

STEPS_PER_EPOCH = 1000  # in the published implementation, for any number of pictures
MOST_EPOCHS = 10**6
# Our name of each network -> its key in a published checkpoint.
NETWORKS = {
    "guide": "C_state_dict",
    "guide_average": "C_EMA_state_dict",
    "discriminator": "D_state_dict",
    "generator": "G_state_dict",
    "generator_average": "G_EMA_state_dict",
}
INCEPTION = "inceptionNet_state_dict"
PARALLEL = "module."  # prefix of every name of a network that was trained on several GPUs
# Settings that the published implementation does not have, and what they do. With the same weights, its E computes
# something else than an E that was trained with these settings.
NOT_PUBLISHED = {
    "guide_image_size": "E sees smaller pictures (--guide-image-size)",
    "standardise": "E standardises its pictures (--standardise)",
    "whole_statistics": "E's batch norms have the statistics of whole pictures (--whole-statistics)",
    "normalise_style": "style codes have one length (--normalise-style)",
}


@dataclass(frozen=True)
class Imported:
    """The content of a published checkpoint, with our names."""

    config: Config  # the paper's, with the sizes of the networks and the learning rates from the checkpoint
    tensors: Tensors  # named as in a checkpoint of a run; a missing network will be initialised again
    epoch: int | None  # None if the checkpoint does not contain it
    warnings: list[str]


def from_published(checkpoint: Mapping[str, Any], name: str) -> Imported:
    """The networks and optimisers of a published checkpoint. name: its name in error messages.

    Raises RunError naming the first tensors that are missing, unexpected, or of another shape.
    """
    found, notes = _networks_of(checkpoint, name)
    settings, image_size = _read_sizes(found, name)
    try:
        replace(Config(), networks=settings).with_overrides({"image_size": image_size})
    except ConfigError as error:
        raise misfit(name, [str(error)]) from None
    meta = _on_meta(settings, image_size)
    problems: list[str] = []
    tensors: Tensors = {}
    for ours, theirs in found.items():
        kind = ours.removesuffix("_average")
        problems += _differences(NETWORKS[ours], theirs, published_shapes(meta[kind]))
    if not problems:
        for ours, theirs in found.items():
            network = meta[ours.removesuffix("_average")]
            shapes = {k: v.shape for k, v in network.state_dict().items()}
            tensors |= {
                f"{ours}.{k}": theirs[p].reshape(shapes[k]) for k, p in published_names(network).items()
            }
    overrides: dict[str, Any] = {"image_size": image_size, "fit": "stretch"}
    for ours, key in OPTIMISERS.items():
        saved = checkpoint.get(key)
        if ours not in found:
            continue
        if saved is None or (isinstance(saved, Mapping) and not saved):
            notes.append(f"{name} holds no {key}: further training starts it from the beginning")
            continue
        moments, wrong = moments_of(saved, ours, meta[ours], key)
        tensors |= moments
        problems += wrong
        if not wrong:
            options = saved["param_groups"][0]
            overrides |= {setting: options[k] for k, setting in RECORDED[ours].items() if k in options}
    if problems:
        raise misfit(name, problems)
    known = {"epoch", INCEPTION, *NETWORKS.values(), *OPTIMISERS.values()}
    ignored = {key: None for key in checkpoint if key not in known}
    if ignored:
        notes.append(f"{name} also holds {description_of(ignored)}, which is ignored")
    try:
        config = replace(Config(), networks=settings).with_overrides(overrides)
    except ConfigError as error:  # a rate, for example, that is no number
        raise misfit(name, [str(error)]) from None
    return Imported(config, tensors, _epoch_of(checkpoint), notes)


def to_published(tensors: Tensors, config: Config, step: int) -> tuple[dict[str, Any], list[str]]:
    """A published checkpoint made from the tensors of a run's checkpoint, and notes on what it cannot hold.

    tensors: named as in a checkpoint of a run.
    """
    notes: list[str] = []
    if config.networks.overclusters:
        notes.append(
            f"the overclustering head of {config.networks.overclusters} clusters is left out: the published "
            "implementation has none"
        )
    if config.networks.candidate_heads:
        notes.append(
            f"the {config.networks.candidate_heads} candidate domain heads are left out: the published implementation"
            " has none"
        )
    notes += [
        f"the published implementation does not know that {what}: its E gives other domains and styles than this "
        "run's"
        for setting, what in NOT_PUBLISHED.items()
        if getattr(config.networks, setting)
    ]
    if step % STEPS_PER_EPOCH:
        notes.append(
            f"step {step} is written as epoch {step // STEPS_PER_EPOCH}: the published implementation counts "
            f"whole epochs of {STEPS_PER_EPOCH} steps"
        )
    meta = _on_meta(replace(config.networks, overclusters=0, candidate_heads=0), config.data.image_size)
    checkpoint: dict[str, Any] = {"epoch": step // STEPS_PER_EPOCH}
    for ours, key in NETWORKS.items():
        network = meta[ours.removesuffix("_average")]
        own_name = {theirs: name for name, theirs in published_names(network).items()}
        saved: OrderedDict[str, Tensor] = OrderedDict()
        for theirs, shape in published_shapes(network).items():
            if is_adain_statistic(theirs):
                saved[theirs] = torch.zeros(shape) if theirs.endswith("mean") else torch.ones(shape)
            else:
                saved[theirs] = tensors[f"{ours}.{own_name[theirs]}"].reshape(shape)
        checkpoint[key] = saved
    for ours, key in OPTIMISERS.items():
        checkpoint[key] = published_optimiser(tensors, ours, meta[ours], config.optimisers)
    return checkpoint, notes


def _networks_of(
    checkpoint: Mapping[str, Any], name: str
) -> tuple[dict[str, Mapping[str, Tensor]], list[str]]:
    """The networks in a checkpoint, by our names, and a note for each that is missing."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for ours, key in NETWORKS.items():
        value = checkpoint.get(key)
        if value is None or (isinstance(value, Mapping) and not value):
            continue
        if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
            raise RunError(f"{name}: {key} is not the state of a network: give a published model_*.ckpt file")
        parallel = all(k.startswith(PARALLEL) for k in value)
        found[ours] = {k.removeprefix(PARALLEL) if parallel else k: v for k, v in value.items()}
    missing = [
        NETWORKS[kind] for kind in ("guide", "generator") if not {kind, f"{kind}_average"} & found.keys()
    ]
    if missing:
        held = description_of(checkpoint)
        raise RunError(
            f"{name} is not a published checkpoint: {' and '.join(missing)} missing, it holds {held}"
        )
    notes = []
    for kind in ("guide", "generator"):
        live, average = kind, f"{kind}_average"
        if live not in found:
            notes.append(
                f"{name} holds no {NETWORKS[live]}: further training starts with {NETWORKS[average]}"
            )
            found[live] = found[average]
        if average not in found:
            notes.append(f"{name} holds no {NETWORKS[average]}: the EMA starts as {NETWORKS[live]}")
            found[average] = found[live]
    if "discriminator" not in found:
        notes.append(
            f"{name} holds no {NETWORKS['discriminator']}: further training starts with a new discriminator"
        )
    return found, notes


def _read_sizes(found: Mapping[str, Mapping[str, Tensor]], name: str) -> tuple[NetworkConfig, int]:
    """The settings and the image size, from the shapes of the weights.

    Each down-sampling of G halves the picture, and the content code is 16 pixels wide. So with n down-samplings the
    image size is 16 * 2**n.
    """
    generator = found["generator"]
    convolutions = [k for k in generator if re.fullmatch(r"cnt_encoder\.model\.\d+\.conv\.weight", k)]
    halvings = len(convolutions) - 1
    if not 1 <= halvings <= 16:
        raise RunError(
            f"{name}: the generator has {max(halvings, 0)} down-samplings: a published generator has 1 or more"
        )
    image_size = CONTENT_SIZE * 2**halvings

    def width(network: str, tensor: str) -> int:
        """The size of a tensor along its first axis. Raises RunError if it is missing, or is not a tensor."""
        value = found[network].get(tensor)
        if value is None:
            raise misfit(name, [f"{NETWORKS[network]} {tensor} is missing"])
        if not isinstance(value, Tensor) or not value.dim() or value.shape[0] < 1:
            raise misfit(name, [f"{NETWORKS[network]} {tensor} is {description_of(value)}"])
        return int(value.shape[0])

    def unless_default(value: int) -> int:
        """The value of the width's setting: 0 if the width is the paper's."""
        return 0 if value == default_width(image_size) else value

    settings = NetworkConfig(
        domains=width("guide", "disc.weight"),
        style_width=width("guide", "cont.weight"),
        guide_width=width("guide", "features.0.weight"),
        generator_width=unless_default(width("generator", "cnt_encoder.model.0.conv.weight")),
        discriminator_width=(
            unless_default(width("discriminator", "main.0.weight")) if "discriminator" in found else 0
        ),
    )
    return settings, image_size


def _on_meta(settings: NetworkConfig, image_size: int) -> dict[str, nn.Module]:
    """E, G and D on the meta device, so that a wrong file cannot make tunit allocate memory."""
    config = replace(Config(), networks=settings).with_overrides({"image_size": image_size})
    with only_shapes():
        return {
            "guide": TUNIT.guide(config),
            "generator": TUNIT.generator(config),
            "discriminator": TUNIT.discriminator(config),
        }


def _differences(key: str, theirs: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    problems = [f"{key} {k} is missing" for k in shapes if k not in theirs and not is_adain_statistic(k)]
    problems += [f"{key} {k} is unexpected" for k in theirs if k not in shapes]
    for k, shape in shapes.items():
        if k in theirs and not fits(theirs[k], shape):
            problems.append(f"{key} {k} is {description_of(theirs[k])} where {shape} is expected")
    return problems


def _epoch_of(checkpoint: Mapping[str, Any]) -> int | None:
    epoch = checkpoint.get("epoch")
    return epoch if type(epoch) is int and 0 <= epoch <= MOST_EPOCHS else None
