"""A run that begins with the E, G and D of another, on other pictures (`tunit train NEW --from RUN`).

What the new run takes over it holds as its first checkpoint, of step 0, so that it never needs the other again.
"""

from collections.abc import Collection
from pathlib import Path

import torch

from tunit.config import Config, find_field
from tunit.errors import ConfigError
from tunit.methods.registry import method_of
from tunit.training.checkpoint import load_newest, save_checkpoint
from tunit.training.run_folder import RunFolder
from tunit.training.state import new_state

# What weights depend on in every method, all but the number of domains and heads.
SHAPE = (
    "image_size",
    "method",
    "guide_width",
    "generator_width",
    "discriminator_width",
    "style_width",
)
# What goes with the networks where nothing else is said: their heads, and how pictures become their input.
HEADS = ("domains", "overclusters", "candidate_heads")
INPUT = ("fit", "background")


def like(config: Config, origin: Path, said: Collection[str]) -> Config:
    """A config with the networks and the input of the run `origin`, but for the settings that are `said`.

    Raises ConfigError where `said` has one that cannot differ, RunError where `origin` is no run.
    """
    theirs = RunFolder(origin).read_config()
    taken = {name: value_of(theirs, name) for name in (*shape_of(theirs), *HEADS, *INPUT) if name not in said}
    config = config.with_overrides(taken)
    check_shape(config, origin)
    return config


def check_shape(config: Config, origin: Path) -> None:
    """Raises ConfigError, naming the settings, where weights of the run `origin` do not fit a config's networks."""
    theirs = RunFolder(origin).read_config()
    differ = [name for name in shape_of(theirs) if value_of(config, name) != value_of(theirs, name)]
    if differ:
        settings = ", ".join(f"{name} {value_of(theirs, name)}" for name in differ)
        ours = ", ".join(str(value_of(config, name)) for name in differ)
        raise ConfigError(
            f"{origin} has networks of {settings}, which do not fit {ours}: take its own, or train without --from"
        )


def shape_of(config: Config) -> tuple[str, ...]:
    """The settings that weights of a config's networks depend on."""
    return (*SHAPE, *method_of(config).network_settings)


def value_of(config: Config, name: str) -> object:
    """The value of a setting in its section."""
    section, field = find_field(name)
    value: object = getattr(config.section(section), field.name)
    return value


def write_beginning(config: Config, origin: Path, checkpoints: Path, pictures: int) -> dict[str, object]:
    """Write the checkpoint of step 0 of a run that begins with the networks of `origin`; says what was taken.

    E, G, D and the averages are those of the newest whole checkpoint of `origin`. Heads that depend on the number of
    domains, where it differs, start anew, as do optimisers, queue and step. pictures: how many the new run has.
    Raises ConfigError where widths or sizes differ, RunError where there is no checkpoint.
    """
    check_shape(config, origin)
    run, cpu = RunFolder(origin), torch.device("cpu")
    theirs = new_state(run.read_config(), cpu, int(run.read_about().get("pictures", 0)))
    path, _ = load_newest(run.checkpoints, theirs)
    state = new_state(config, cpu, pictures)
    anew: set[str] = set()
    for name, network in state.networks.named().items():
        own = network.state_dict()
        found = theirs.networks.named()[name].state_dict()
        taken = {key: value for key, value in found.items() if key in own and value.shape == own[key].shape}
        network.load_state_dict(own | taken)
        anew |= {f"{name}.{key}" for key in own.keys() - taken.keys()}
    save_checkpoint(checkpoints, state, config.run.keep_checkpoints)
    return {"run": str(origin.resolve()), "checkpoint": path.name, "step": theirs.step, "anew": sorted(anew)}
