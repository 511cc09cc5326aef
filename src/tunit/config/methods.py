"""The settings of single methods, and the methods that a config may name: tunit's own, and installed ones."""

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tunit.config.fields import setting
from tunit.errors import ConfigError
from tunit.printing import shown

# The group of entry points by which other packages name modules that register a method or a clustering objective when
# they are imported.
ENTRY_POINTS = "tunit.methods"
PLUGINS = "TUNIT_PLUGINS"  # environment variable: names of such modules, with commas between them
# In files written by development versions before 0.1.0, some settings have other names (old: new), or are in other
# sections.
RENAMED = {"architecture": "method"}
FORMER_SECTIONS = {
    "networks": {"architecture", "octave_share"},
    "losses": {
        "funit_adversarial_factor",
        "feature_matching_weight",
        "pseudo_label_weight",
        "compatibility_weight",
        "prediction_entropy_weight",
        "soft_label_rate",
        "cycle_weight",
        "content_entropy_weight",
    },
    "run": {"guide_from"},
}
# Settings of development versions before 0.1.0 that were removed, and why (EXPERIMENTS.md, "Sharper in equal time"):
# SECTION.NAME -> the value that switched them off. The file of a run holds all settings of its time, so it may hold
# these with this value.
REMOVED: dict[str, object] = {
    "losses.perceptual_weight": 0.0,
    "schedule.decay_steps": 0,
    "adversarial.discriminator_augment_colours": False,
    "adversarial.adversarial_loss": "hinge",
    "adversarial.r2_weight": 0.0,
}
WHY_REMOVED = "removed, because no measurement found translations better with it"
_loaded = False


@dataclass(frozen=True)
class FunitConfig:
    """The losses of the FUNIT baseline, which SEMIT uses, too."""

    funit_adversarial_factor: float = setting(
        0.5, "factor on G's adversarial losses of translations and of reconstructions", low=0
    )
    feature_matching_weight: float = setting(
        1.0, "weight of feature matching: D's features, averaged over space", low=0
    )


@dataclass(frozen=True)
class SemitConfig:
    """The SEMIT baseline (docs/baselines.md says where each value comes from)."""

    octave_share: float = setting(
        0.5, "share of G's channels at the low frequency; 0 is FUNIT's G", low=0, high=1
    )
    pseudo_label_weight: float = setting(
        1.0, "weight of the divergence between classifier and soft labels, in the losses of both", low=0
    )
    compatibility_weight: float = setting(
        0.3, "weight of the cross-entropy between the soft labels and their first values", low=0
    )
    prediction_entropy_weight: float = setting(
        0.4, "weight of the entropy of the classifier's predictions of unlabelled pictures", low=0
    )
    soft_label_rate: float = setting(
        1.0, "learning rate of the logits of soft labels, each time a picture is in a batch", low=0
    )
    cycle_weight: float = setting(0.1, "weight of the cycle consistency", low=0)
    content_entropy_weight: float = setting(
        0.1, "weight of the content entropy: how uncertain the class is, given the content code", low=0
    )


# Every method by name, with the sections that only it reads: section -> its settings. The methods themselves are in
# tunit.methods; their settings are here, because `tunit train --help` must not wait for the import of torch.
METHODS: dict[str, dict[str, type]] = {
    "tunit": {},
    "funit": {"funit": FunitConfig},
    "semit": {"funit": FunitConfig, "semit": SemitConfig},
}


@dataclass(frozen=True)
class MethodConfig:
    """Which method trains, and what it begins with."""

    method: str = setting(
        "tunit",
        "tunit, or a baseline: funit (a class encoder as E, a patch discriminator as D, labels for all pictures) or "
        "semit (funit for few labels, with octave convolutions in G)",
        choices=METHODS,
    )
    guide_from: str = setting("", "folder of another run, with whose trained E the new run starts")


def load_installed_methods() -> None:
    """Import, once, the modules that installed packages name as entry points `tunit.methods`, and those that
    TUNIT_PLUGINS names.

    Raises ConfigError if one cannot be imported; the next call then tries again.
    """
    global _loaded
    if _loaded:
        return
    _loaded = True  # set first: the modules may ask for settings, which calls this function again
    try:
        _import_installed_methods()
    except ConfigError:
        _loaded = False
        raise


def _import_installed_methods() -> None:
    """Import the modules; raises ConfigError as `load_installed_methods` does."""
    import importlib
    import importlib.metadata  # takes a tenth of a second, and is only needed here

    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # code from other packages may raise anything
            package = point.dist.name if point.dist else point.value
            raise ConfigError(
                f"the method or clustering objective {point.name!r} of the package {package} cannot be loaded "
                f"({error}): repair the package, or uninstall it"
            ) from None
    for module in filter(None, (name.strip() for name in os.environ.get(PLUGINS, "").split(","))):
        try:
            importlib.import_module(module)
        except ConfigError as error:  # what it holds cannot be registered
            raise ConfigError(f"{PLUGINS} names the module {module!r}: {error}") from None
        except Exception as error:
            missing = isinstance(error, ModuleNotFoundError) and module.split(".")[0] == error.name
            remedy = "add the folder that holds it to PYTHONPATH" if missing else "repair the module"
            raise ConfigError(
                f"{PLUGINS} names the module {module!r}, which cannot be imported ({error}): {remedy}, or unset "
                f"{PLUGINS}"
            ) from None


def without_removed(settings: dict[str, Any], file: str) -> dict[str, Any]:
    """The settings that a file holds for each section, without those that are `REMOVED`.

    Raises ConfigError if one of them has another value than "off".
    """
    kept = settings
    for full, off in REMOVED.items():
        section, _, name = full.partition(".")
        values = kept.get(section)
        if not isinstance(values, dict) or name not in values:
            continue
        if values[name] != off:
            raise ConfigError(
                f"{file}: {name} is {shown(values[name])}, but this setting was {WHY_REMOVED}: begin a new "
                "run without it"
            )
        kept = kept | {section: {other: value for other, value in values.items() if other != name}}
    return kept


def was_removed(name: str) -> str:
    """': it was removed, ...' for a setting that is `REMOVED`, otherwise "". name: without its section."""
    removed = {full.partition(".")[2] for full in REMOVED}
    return f": it was {WHY_REMOVED}: leave it out" if name.replace("-", "_") in removed else ""


def check_method(name: object, file: str) -> None:
    """Raises ConfigError if `name`, the method that a file names, is that of no package here."""
    check_known(name, METHODS, file, setting="method", kind="method")


def check_known(name: object, known: Collection[str], file: str, *, setting: str, kind: str) -> None:
    """Raises ConfigError if `name`, to which a file sets `setting`, is not among the `known` names of its kind, those
    of installed packages included.
    """
    load_installed_methods()
    if isinstance(name, str) and name not in known:
        raise ConfigError(
            f"{file}: its {setting} is {shown(name)}, which is not known here: take one of {', '.join(known)}, or, "
            f"if another package has this {kind}, install that package or name its module in {PLUGINS}"
        )


def method_sections() -> dict[str, type]:
    """The sections of all methods by name, in the order in which the methods were added."""
    load_installed_methods()
    return {name: kind for sections in METHODS.values() for name, kind in sections.items()}


def add_method(name: str, sections: dict[str, type], taken: set[str]) -> None:
    """Let configs name a method; sections: its own settings, each a frozen dataclass of `setting`s.

    taken: all existing names of sections and settings. Raises ConfigError if one of the new names is among them.
    """
    clashes = [(name, "the method")] if name in METHODS else []
    for section, kind in sections.items():
        if method_sections().get(section) is kind:  # shared with the method it is based on
            continue
        clashes += [(section, "the section")] if section in taken else []
        clashes += [(f.name, "the setting") for f in dataclasses.fields(kind) if f.name in taken]
    if clashes:
        clash, what = clashes[0]
        whose = "" if what == "the method" else f" of the method {name!r}"
        raise ConfigError(f"the name {clash!r} is taken already: give {what}{whose} another")
    METHODS[name] = dict(sections)
