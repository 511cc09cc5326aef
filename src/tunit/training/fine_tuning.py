"""A run that begins with E, G and D of another run, on other pictures (`tunit train FOLDER --from RUN`).

The weights are copied into the new run as its checkpoint of step 0, so the other run is not needed afterwards.
"""

from collections.abc import Collection
from pathlib import Path

import torch

from tunit.config import AUTO, Config, find_field
from tunit.data.packing.packed import PackedPictures
from tunit.errors import ConfigError
from tunit.methods.registry import method_of
from tunit.printing import remark
from tunit.training.checkpoint import load_newest, newest_choice, save_checkpoint
from tunit.training.initial_state import new_state
from tunit.training.run_folder import RunFolder

# In every method, the shapes of weights depend on these settings, and on the numbers of domains and heads.
SHAPE = (
    "image_size",
    "method",
    "guide_width",
    "generator_width",
    "discriminator_width",
    "style_width",
)
# Settings that are copied with the networks unless given: the heads, and how pictures become input.
HEADS = ("domains", "overclusters", "candidate_heads")
INPUT = ("fit", "background")


def config_like(config: Config, origin: Path, given: Collection[str]) -> Config:
    """The config with the networks and input settings of the run `origin`, except the settings in `given`.

    given: names of settings that the user set explicitly. Raises ConfigError if one of these must be the same as in
    `origin` but is not, RunError if `origin` is not a run.
    """
    theirs = RunFolder(origin).read_config()
    taken = {
        name: value_of(theirs, name) for name in (*shape_of(theirs), *HEADS, *INPUT) if name not in given
    }
    if taken.get("domains") == AUTO:
        choice = newest_choice(RunFolder(origin).checkpoints)
        taken["domains"] = choice.domains if choice else AUTO
    config = config.with_overrides(taken)
    check_shape(config, origin)
    return config


def check_shape(config: Config, origin: Path) -> None:
    """Raises ConfigError, naming the settings, if weights of the run `origin` do not fit the config's networks."""
    theirs = RunFolder(origin).read_config()
    differ = [name for name in shape_of(theirs) if value_of(config, name) != value_of(theirs, name)]
    if differ:
        settings = ", ".join(f"{name} {value_of(theirs, name)}" for name in differ)
        ours = ", ".join(str(value_of(config, name)) for name in differ)
        raise ConfigError(
            f"{origin} has networks with {settings}, but this run asks for {ours}: leave these settings out, or "
            "train without --from"
        )


def shape_of(config: Config) -> tuple[str, ...]:
    """The settings that weights of a config's networks depend on."""
    return (*SHAPE, *method_of(config).network_settings)


def value_of(config: Config, name: str) -> object:
    """The value of a setting in its section."""
    section, field = find_field(name)
    value: object = getattr(config.section(section), field.name)
    return value


def write_beginning(
    config: Config, origin: Path, checkpoints: Path, pictures: PackedPictures
) -> dict[str, object]:
    """Write a checkpoint of step 0 with the networks of `origin`. Returns what was copied, for run.json.

    E, G, D and the EMAs come from the newest undamaged checkpoint of `origin`; a warning is printed for each damaged
    one that is skipped. If the number of domains differs, the heads that depend on it are initialised again;
    optimisers, queue and step always start from the beginning. Before the checkpoint is written, the method may
    change the networks (`Method.adopt`): TUNIT fits E's domain heads to the labels, if there are any. pictures: those
    of the new run.
    Raises ConfigError if widths or sizes differ, RunError if there is no checkpoint.
    """
    check_shape(config, origin)
    run, cpu = RunFolder(origin), torch.device("cpu")
    theirs = new_state(run.read_config(), cpu, int(run.read_about().get("pictures", 0)))
    path, warnings = load_newest(run.checkpoints, theirs)
    for warning in warnings:
        remark(f"warning: {warning}", name="")
    state = new_state(config, cpu, len(pictures.names))
    fresh: set[str] = set()
    for name, network in state.networks.named().items():
        own = network.state_dict()
        found = theirs.networks.named()[name].state_dict()
        taken = {key: value for key, value in found.items() if key in own and value.shape == own[key].shape}
        network.load_state_dict(own | taken)
        fresh |= {f"{name}.{key}" for key in own.keys() - taken.keys()}
    adopt = method_of(config).adopt
    if adopt is not None:
        adopt(state, pictures)
    save_checkpoint(checkpoints, state, config.run.keep_checkpoints)
    return {"run": str(origin.resolve()), "checkpoint": path.name, "step": theirs.step, "anew": sorted(fresh)}
