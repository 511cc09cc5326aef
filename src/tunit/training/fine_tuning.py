"""A run that begins with E, G and D of another run, on other pictures (`tunit train FOLDER --from RUN`), or with
its E alone (`--guide-from RUN`).

With `--from` the weights are copied into the new run as its checkpoint of step 0, so the other run is not needed
afterwards.
"""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from tunit.config import AUTO, Config
from tunit.config.fields import AUTO_WORD
from tunit.config.methods import METHODS
from tunit.data.packing.packed import PackedPictures
from tunit.errors import ConfigError, RunError
from tunit.methods.checks import check_labels
from tunit.methods.method import Labels
from tunit.methods.model_file import load_model
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.networks.only_shapes import only_shapes
from tunit.printing import remark, shown
from tunit.training.checkpoint import load_newest, newest_choice, save_checkpoint
from tunit.training.from_pictures import LEFT_TO_PICTURES
from tunit.training.initial_state import new_state
from tunit.training.resources import prepare_machine
from tunit.training.run_folder import CHOSEN, RunFolder, label_names

# In every method, the shapes of weights depend on these settings, and on the numbers of domains and heads.
SHAPE = (
    "image_size",
    "method",
    "guide_width",
    "generator_width",
    "discriminator_width",
    "style_width",
)
# Settings that are copied with the networks unless given: the heads, how pictures become input, and the length of
# style codes, because G has learnt from codes of that length.
HEADS = ("domains", "overclusters", "candidate_heads")
INPUT = ("fit", "background", "guide_image_size", "standardise")
CODES = ("normalise_style", "style_size")
# Sections and phases that are also taken if the user names no preset. The rest belongs to the pictures, their labels
# and the machine.
SECTIONS = ("networks", "losses", "adversarial", "optimisers", "augment", "clustering")
PHASES = ("guide_only_until", "average_from")
# An E must go on with the values of these settings with which it was trained.
LEARNT_FROM = ("standardise", "normalise_style")


def config_like(
    config: Config, origin: Path, given: Collection[str], *, with_training: bool = False
) -> Config:
    """The config with the networks and input settings of the run `origin`, except the settings in `given`.

    given: names of settings that the user set explicitly. with_training: take also how `origin` was trained, because
    the user names no preset; the phases keep their shares of all steps, and what tunit chose from the pictures of
    `origin` is left to be chosen from the new ones. Raises ConfigError if a given setting must be
    the same as in `origin` but is not, RunError if `origin` is not a run.
    """
    theirs = RunFolder(origin).read_config()
    taken = {name: theirs.value(name) for name in (*shape_of(theirs), *HEADS, *INPUT, *CODES)}
    if with_training:
        chosen = RunFolder(origin).read_about().get(CHOSEN, ())  # runs of former versions do not say it
        left = {name: AUTO_WORD for name in LEFT_TO_PICTURES if name in chosen}
        taken |= _training_of(theirs) | left
    taken = {name: value for name, value in taken.items() if name not in given}
    if theirs.networks.domains == AUTO and "domains" in taken:
        choice = newest_choice(RunFolder(origin).checkpoints)
        taken["domains"] = choice.domains if choice else "auto"
    config = config.with_overrides(taken)
    check_shape(config, origin)
    return config


def _training_of(theirs: Config) -> dict[str, object]:
    """How a run was trained: settings by name, with the lengths of phases as shares of all steps."""
    sections = (*SECTIONS, *METHODS[theirs.method.method])
    names = [field.name for section in sections for field in fields(theirs.section(section))]
    steps = theirs.schedule.steps
    phases = {name: min(float(getattr(theirs.schedule, name)) / steps, 1.0) for name in PHASES}
    # A value for which a word stands, such as auto, is only accepted as this word.
    values = {name: theirs.word(name) for name in names}
    return values | phases | {"steps": steps}


def check_shape(config: Config, origin: Path) -> None:
    """Raises ConfigError, naming the settings, if weights of the run `origin` do not fit the config's networks."""
    theirs = RunFolder(origin).read_config()
    differ = [name for name in shape_of(theirs) if config.value(name) != theirs.value(name)]
    if differ:
        settings = ", ".join(f"{name} {theirs.value(name)}" for name in differ)
        ours = ", ".join(str(config.value(name)) for name in differ)
        raise ConfigError(
            f"{origin} has networks with {settings}, but this run asks for {ours}: leave these settings out, or "
            "train without --from"
        )


def shape_of(config: Config) -> tuple[str, ...]:
    """The settings that weights of a config's networks depend on."""
    return (*SHAPE, *method_of(config).network_settings)


def write_beginning(
    config: Config, origin: Path, checkpoints: Path, pictures: PackedPictures
) -> dict[str, object]:
    """Write a checkpoint of step 0 with the networks of `origin`. Returns for run.json where they came from, and
    the names of the tensors that were not copied.

    E, G, D and the EMAs come from the newest undamaged checkpoint of `origin`; a warning is printed for each damaged
    one that is skipped. If the number of domains differs, the heads that depend on it are initialised again; if only
    the labels differ, and the method needs them, the rows of these heads are copied by label (`rows_by_label`).
    Optimisers, queue and step always start from the beginning. Before the checkpoint is written, the method may
    change the networks if there are labels (`Method.adopt`): TUNIT fits E's domain heads to them. pictures: those of
    the new run.
    Raises ConfigError if widths or sizes differ, DataError if the labels do not fit the domains, RunError if there is
    no checkpoint.
    """
    check_shape(config, origin)
    check_labels(config, pictures.labels, pictures.names)  # a method's `adopt` relies on it
    run, cpu = RunFolder(origin), torch.device("cpu")
    theirs = new_state(run.read_config(), cpu, run.read_about().get("pictures") or 0)
    path, warnings = load_newest(run.checkpoints, theirs)
    for warning in warnings:
        remark(f"warning: {warning}", name="")
    adopt = method_of(config).adopt if pictures.any_labelled else None
    # A method that looks at the pictures does so with E, for which a CPU may take long.
    device = cpu if adopt is None else prepare_machine(config)
    state = new_state(config, device, len(pictures.names))
    fresh: set[str] = set()
    rows = rows_by_label(config, origin, pictures.classes)
    heads = label_heads(config) if rows else set()
    for name, network in state.networks.named().items():
        own = network.state_dict()
        found = theirs.networks.named()[name].state_dict()
        taken = {key: value for key, value in found.items() if key in own and value.shape == own[key].shape}
        for key in taken:
            if f"{name.removesuffix('_average')}.{key}" in heads:
                taken[key] = with_rows_of(own[key], found[key], rows)
        network.load_state_dict(own | taken)
        fresh |= {f"{name}.{key}" for key in own.keys() - taken.keys()}
    if adopt is not None:
        adopt(state, pictures)
    save_checkpoint(checkpoints, state, config.run.keep_checkpoints)
    return {"run": str(origin.resolve()), "checkpoint": path.name, "step": theirs.step, "anew": sorted(fresh)}


def rows_by_label(config: Config, origin: Path, labels: list[str]) -> list[int]:
    """For each label, its number in the run `origin`, or -1 if that has no such label. Empty if the heads are copied
    as they are (the labels are the same, or unknown, or the method does not need them) or not at all.

    Prints a warning if the list is not empty. labels: those of the new run, in the order of their numbers.
    """
    before = RunFolder(origin).read_config().networks.initial_domains
    if method_of(config).labels is Labels.OPTIONAL or before != config.networks.initial_domains:
        return []  # TUNIT fits its heads to the labels; heads of another size are not copied
    theirs = label_names(origin)
    if not theirs or theirs[: len(labels)] == labels:
        return []
    new = [label for label in labels if label not in theirs]
    anew = f", and start anew for {', '.join(map(shown, new[:3]))}{' ...' if new[3:] else ''}" if new else ""
    remark(
        f"warning: {origin} has other labels: the last layers keep what they have learnt for "
        f"{len(labels) - len(new)} of the {len(labels)} labels (those of the same name){anew}",
        name="",
    )
    return [theirs.index(label) if label in theirs else -1 for label in labels]


def label_heads(config: Config) -> set[str]:
    """The names of the tensors with a row for each label, such as "discriminator.head.weight"."""
    method, domains = method_of(config), config.networks.initial_domains
    more = config.with_overrides({"domains": domains + 1})
    found: set[str] = set()
    with only_shapes():
        for name in ("guide", "generator", "discriminator"):
            make = getattr(method, name)
            larger = make(more).state_dict()
            for key, value in make(config).state_dict().items():
                if value.shape[:1] == (domains,) and larger[key].shape[:1] == (domains + 1,):
                    found.add(f"{name}.{key}")
    return found


def with_rows_of(own: Tensor, found: Tensor, rows: list[int]) -> Tensor:
    """`own`, with the rows of `found` that `rows` names; -1 keeps the own row."""
    values = own.clone()
    for label, row in enumerate(rows):
        if row >= 0:
            values[label] = found[row]
    return values


def copy_guide(state: TrainingState, run: Path, config: Config, pictures: PackedPictures) -> None:
    """Copy E of another run into E and its EMA. pictures: those of the new run.

    Raises RunError if that run has no model, if the shapes of its E differ, or if it was trained with other values of
    `standardise` or `normalise_style` than the config has.
    """
    model = load_model(run)
    for name in LEARNT_FROM:
        theirs, ours = model.config.value(name), config.value(name)
        if theirs != ours:
            flag = f"--{name.replace('_', '-')} {str(theirs).lower()}"
            raise RunError(
                f"the guiding network of {run} was trained with {flag}, and this run is not: add {flag}"
            )
    weights = model.guide.state_dict()
    for guide in (state.networks.guide, state.networks.guide_average):
        try:
            guide.load_state_dict(weights)
        except RuntimeError:
            classes = int(pictures.labels.max(initial=-1)) + 1
            sentence = f"the guiding network of {run} {_why_it_does_not_fit(model.config, config, classes)}"
            raise RunError(sentence) from None


def _why_it_does_not_fit(theirs: Config, ours: Config, classes: int) -> str:
    """What differs between an E and that of this run, and what to do, as the end of a sentence."""
    method, domains = theirs.method.method, theirs.networks.initial_domains
    if method != ours.method.method:
        return (
            f"is of the method {method}, and this run is of {ours.method.method}: give a run of that method"
        )
    if domains == ours.networks.initial_domains:
        return "has other shapes: set --guide-width, --style-width and the heads as in that run"
    if domains >= classes:
        return f"has {domains} domains, and this run has {ours.networks.initial_domains}: add --domains {domains}"
    return (
        f"has {domains} domains, and the labels have {classes} classes: give a run with at least as many domains, or "
        "leave --guide-from out"
    )
