"""The settings of single methods, and the methods that a config may name: those of tunit, and installed ones."""

import dataclasses
import os
from dataclasses import dataclass

from tunit.config.fields import setting
from tunit.errors import ConfigError

ENTRY_POINTS = "tunit.methods"  # a package names here a module that registers its method when it is imported
PLUGINS = "TUNIT_PLUGINS"  # of the environment: such modules, with commas between them
# Settings that files of earlier versions have under another name, and the sections where they stood.
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
_loaded = False


@dataclass(frozen=True)
class FunitConfig:
    """The losses of the FUNIT baseline, which are SEMIT's too."""

    funit_adversarial_factor: float = setting(
        0.5, "factor on G's two adversarial terms, of the translation and of the reconstruction", low=0
    )
    feature_matching_weight: float = setting(
        1.0, "weight of the matching of D's features, averaged over space", low=0
    )


@dataclass(frozen=True)
class SemitConfig:
    """The SEMIT baseline (docs/baselines.md says where each value comes from)."""

    octave_share: float = setting(
        0.5, "share of G's channels at the low frequency; 0 is FUNIT's G", low=0, high=1
    )
    pseudo_label_weight: float = setting(
        1.0, "weight of the classifier's divergence from the soft labels, in its loss and theirs", low=0
    )
    compatibility_weight: float = setting(
        0.3, "weight of the soft labels' cross-entropy to what they were at first", low=0
    )
    prediction_entropy_weight: float = setting(
        0.4, "weight of the entropy of the classifier's predictions of unlabelled pictures", low=0
    )
    soft_label_rate: float = setting(
        1.0, "gradient descent's rate on the logits of soft labels, per visit of a picture", low=0
    )
    cycle_weight: float = setting(0.1, "weight of the cycle consistency", low=0)
    content_entropy_weight: float = setting(
        0.1, "weight of the entropy of the class as read from content codes, which G raises", low=0
    )


# Every method by name, with the sections that it reads beyond those of all: section -> its settings. The methods
# themselves are in tunit.methods; their settings stand here, for `tunit train --help` must not wait for torch.
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
        "tunit, or a baseline: funit, with a class encoder for E, patches for D, and labels for all pictures; "
        "semit, which is funit for few labels, with octave convolutions in G",
        of=METHODS,
    )
    guide_from: str = setting("", "run whose trained E a new run begins with")


def load_installed_methods() -> None:
    """Import, once, what installed packages say under the entry points `tunit.methods`, and what TUNIT_PLUGINS names.

    Raises ConfigError where one cannot be imported.
    """
    global _loaded
    if _loaded:
        return
    import importlib
    import importlib.metadata  # a tenth of a second, and only those who ask for settings need it

    _loaded = True  # before the imports, for they may ask for settings
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # code of others: whatever it raises, the method is not there
            package = point.dist.name if point.dist else point.value
            raise ConfigError(
                f"the method {point.name!r} of the package {package} cannot be loaded ({error}): "
                "mend the package, or uninstall it"
            ) from None
    for module in filter(None, os.environ.get(PLUGINS, "").split(",")):
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ConfigError(
                f"{PLUGINS} names the module {module!r}, which cannot be imported ({error}): mend it, or unset it"
            ) from None


def method_sections() -> dict[str, type]:
    """The sections of all methods by name, in the order in which the methods were added."""
    load_installed_methods()
    return {name: kind for sections in METHODS.values() for name, kind in sections.items()}


def add_method(name: str, sections: dict[str, type], taken: set[str]) -> None:
    """Let configs name a method; sections: its own settings, each a frozen dataclass of `setting`s.

    taken: names of sections and settings that there are. Raises ConfigError where a name is not free.
    """
    names = [name] if name in METHODS else []
    for section, kind in sections.items():
        if method_sections().get(section) is kind:  # of a method that this one builds upon
            continue
        names += [section] if section in taken else []
        names += [f.name for f in dataclasses.fields(kind) if f.name in taken]
    if names:
        raise ConfigError(f"the name {names[0]!r} is taken already: give the method {name!r} another")
    METHODS[name] = dict(sections)
