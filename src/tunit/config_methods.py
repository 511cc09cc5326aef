"""The methods that a config may name: those that come with tunit, installed ones, and what became of older names."""

import dataclasses
import importlib.metadata

from tunit.config_sections import METHODS
from tunit.errors import ConfigError

ENTRY_POINTS = "tunit.methods"  # a package names here a module that registers its method when it is imported
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


def load_installed_methods() -> None:
    """Import, once, what installed packages say under the entry points `tunit.methods`.

    Raises ConfigError where one cannot be imported.
    """
    global _loaded
    if _loaded:
        return
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
