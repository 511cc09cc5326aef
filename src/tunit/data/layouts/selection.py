"""Find, from a user's settings, the part of a published data set, and a config with the defaults of that data set."""

from collections.abc import Collection, Mapping
from typing import Any

from tunit.config import Config, DataConfig, file_settings, find_field, preset_names, read_config, suggestion
from tunit.config.run_file import is_run_config
from tunit.data.layouts.all_layouts import LAYOUTS
from tunit.data.layouts.layout import Part
from tunit.errors import ConfigError
from tunit.files.paths import expand_home
from tunit.files.reading import MEBIBYTE, UnreadableError, read_text

NONE = "none"


def layout_config(preset: str, overrides: Mapping[str, Any]) -> Config:
    """The config of a preset, with the defaults of its layout, then the user's settings; later ones win.

    The user's settings are the overrides and those of a TOML file that the user wrote. A preset that comes with tunit
    has a lower priority than the layout. Raises ConfigError as `read_config` and `with_overrides` do.
    """
    config = read_config(preset).with_overrides(overrides)
    part = part_of(config.data)
    if part is None:
        return config
    given = explicit_settings(preset, overrides)
    defaults = LAYOUTS[part.layout].defaults
    config = config.with_overrides({name: value for name, value in defaults.items() if name not in given})
    # The names of the classes instead of the path of a text file, so that the run does not depend on that file.
    return config.with_overrides({"classes": ",".join(part.classes)})


def explicit_settings(preset: str, overrides: Mapping[str, Any]) -> set[str]:
    """The names of the settings that the user gave: the overrides, and those in a TOML file that the user wrote."""
    return {find_field(name)[1].name for name in (*file_settings(preset), *overrides)}


def chosen_settings(preset: str, overrides: Mapping[str, Any]) -> set[str]:
    """As `explicit_settings`, but if the TOML file is the config of a run, only the overrides were chosen."""
    if preset not in preset_names() and is_run_config(expand_home(preset)):
        return {find_field(name)[1].name for name in overrides}
    return explicit_settings(preset, overrides)


def average_behind(config: Config, preset: str, given: Collection[str]) -> Config:
    """The config whose `average_from` is behind `guide_only_until`, as far as in the preset, unless the user gave it.

    The preset's own would otherwise begin the EMA of G before G trains, if the user lets E train alone for longer.
    given: as of `explicit_settings`.
    """
    schedule = config.resolved_schedule().schedule
    alone, average, steps = (
        int(each) for each in (schedule.guide_only_until, schedule.average_from, schedule.steps)
    )
    if "average_from" in given or not 0 < average < alone:
        return config
    usual = read_config(preset).with_overrides({"steps": steps}).resolved_schedule().schedule
    later = alone + max(1, int(usual.average_from) - int(usual.guide_only_until))
    return config.with_overrides({"average_from": max(alone, min(later, steps - 1))})


def part_of(data: DataConfig) -> Part | None:
    """The part of a published data set that the data settings name; None without a layout. Raises ConfigError."""
    part = make_part(data.layout, data.split, data.classes, data.held_out)
    if part is not None and data.labels == "csv":
        raise ConfigError(
            f"labels is csv, but {data.layout} has no table: give --labels folders for its classes, or --labels none"
        )
    return part


def make_part(layout: str, split: str = "train", classes: str = "", held_out: int = 0) -> Part | None:
    """A part of a published data set; None if `layout` is "none".

    split: "train", or "validation" ("test" means the same). classes: names with commas between them, or a text file
    with one on a line; only for layouts whose classes the user chooses. held_out: how many pictures at the end are
    validation instead of the paper's number (0).

    Raises ConfigError if they contradict each other.
    """
    if layout == NONE:
        for name, value, unset in (
            ("split", split, "train"),
            ("classes", classes, ""),
            ("held_out", held_out, 0),
        ):
            if value != unset:
                raise ConfigError(
                    f"{name} is {value!r}, but no --layout is given: give one, or leave out "
                    f"--{name.replace('_', '-')}"
                )
        return None
    if layout not in LAYOUTS:
        raise ConfigError(
            f"layout is {layout!r}: take one of {', '.join(LAYOUTS)}{suggestion(layout, LAYOUTS)}"
        )
    if split not in ("train", "validation", "test"):
        raise ConfigError(f"split is {split!r}: take train or validation")
    known = LAYOUTS[layout]
    if held_out < 0 or (held_out and not known.held_out):
        why = (
            "is less than 0"
            if held_out < 0
            else f"has no effect for {layout}, whose publisher made the split"
        )
        raise ConfigError(f"held_out {held_out} {why}: leave it out")
    names = _class_names(classes)
    if len(names) != known.open_classes:
        raise ConfigError(_wrong_classes(layout, known.open_classes, len(names)))
    return Part(layout, "train" if split == "train" else "validation", names, held_out or known.held_out)


def _wrong_classes(layout: str, needed: int, given: int) -> str:
    if not needed:
        return f"classes are given, but {layout} has its own: leave out --classes"
    return (
        f"{layout} takes {needed} classes, which the paper does not name, and {given} are given: give --classes "
        "with commas between them or as a text file"
    )


def _class_names(classes: str) -> tuple[str, ...]:
    """The names in a text, or in the file that the text names, sorted, each only once."""
    text = classes
    if classes.lower().endswith(".txt"):
        try:
            text = read_text(expand_home(classes), MEBIBYTE).removeprefix("\ufeff").replace("\n", ",")
        except UnreadableError as error:
            raise ConfigError(
                f"classes is {classes}, which cannot be read ({error}): give a text file"
            ) from None
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
