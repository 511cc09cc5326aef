"""Presets: TOML files of differences. Some come with the package; users may write others."""

from importlib import resources
from pathlib import Path
from typing import Any

from tunit.config.clustering import check_clustering_objective
from tunit.config.config import Config, find_field, section_types
from tunit.config.fields import suggestion
from tunit.config.methods import check_method, without_removed
from tunit.errors import ConfigError
from tunit.files.paths import expand_home
from tunit.files.reading import UnreadableError, is_file, parse_toml, read_text
from tunit.printing import shown

LARGEST_FILE = 1 << 18  # bytes of a TOML file; a file with every setting has 4,000
# How text is read: bytes that are not UTF-8 are kept, because file names may contain them.
KEEP_OTHER_BYTES = "surrogateescape"


def preset_names() -> list[str]:
    """The presets that come with the package."""
    folder = resources.files("tunit") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def read_config(preset: str | Path) -> Config:
    """The config of a preset, given by its name or by the path of a TOML file.

    Raises ConfigError if it does not exist, is not TOML, or names an unknown setting.
    """
    if not isinstance(preset, str | Path) or preset == "":
        raise ConfigError(f"the preset is {shown(preset)}: give the name of one, or the path of a TOML file")
    return _read_chain(str(preset), ())


def preset_differences(preset: str, root: str = "paper") -> dict[str, Any]:
    """The differences of a preset from the preset `root`, on which it is based directly or through others.

    Returns SECTION.NAME -> value, for `with_overrides`. Raises ConfigError if it is not based on `root`.
    """
    found: dict[str, Any] = {}
    name: str | None = preset
    seen: list[str] = []
    while name != root:
        if name is None or name in seen:
            raise ConfigError(f"preset {preset} is not based on {root}: it has no differences from it")
        seen.append(name)
        table = _read_table(name)
        base = _base_of(table, name)
        found = {
            _full(f"{s}.{key}"): value for s, keys in table.items() for key, value in keys.items()
        } | found
        name = base
    return found


def file_settings(preset: str) -> set[str]:
    """The settings (SECTION.NAME) in a user's own TOML file and in the user's files on which it is based.

    The settings of presets of the package do not count. Raises ConfigError as `read_config` does.
    """
    if preset in preset_names():
        return set()
    read_config(preset)  # checks the chain
    table = _read_table(preset)
    base = _base_of(table, preset)
    own = {_full(f"{section}.{name}") for section, values in table.items() for name in values}
    return own if base is None else own | file_settings(base)


def _read_chain(preset: str, seen: tuple[str, ...]) -> Config:
    if preset in seen:
        raise ConfigError(f"the presets {', '.join(seen)} are based on each other in a circle")
    table = _read_table(preset)
    base = _base_of(table, preset)
    config = Config() if base is None else _read_chain(base, (*seen, preset))
    if isinstance(method := table.get("method"), dict):
        check_method(method.get("method"), preset)  # first, because its sections are unknown, too
    if isinstance(clustering := table.get("clustering"), dict):
        check_clustering_objective(clustering.get("clustering_objective"), preset)
    overrides: dict[str, Any] = {}
    sections = section_types()
    for section, values in table.items():
        if section not in sections or not isinstance(values, dict):
            raise ConfigError(
                f"{preset}: there is no section {shown(section)}{suggestion(section, sections)}"
            )
        overrides |= {f"{section}.{name}": value for name, value in values.items()}
    try:
        return config.with_overrides(overrides)
    except ConfigError as error:
        raise ConfigError(f"{preset}: {error}") from None


def _base_of(table: dict[str, Any], preset: str) -> str | None:
    """The preset on which a table is based: its name, or the path of its file. The entry is removed from the table.

    A relative path starts from the folder of the file that names it, whatever the working folder is. Raises
    ConfigError if there is no such file.
    """
    base = table.pop("base", None)
    if base == "" or not isinstance(base, str | None):
        raise ConfigError(f"{preset}: base is {shown(base)}: name a preset or a file")
    shipped = preset_names()
    if base is None or base in shipped or preset in shipped:
        return base
    beside = expand_home(preset).parent / expand_home(base)
    if not is_file(beside):
        raise ConfigError(f"{preset}, whose base is looked for in its folder: {_unknown(base)}")
    return str(beside.resolve())  # the same path for the same file, or a circle of bases would have no end


def _unknown(preset: str) -> str:
    """That there is no such preset, with the nearest name, or the settings of a run that was given instead."""
    shipped, of_run = preset_names(), expand_home(preset) / "config.toml"
    if is_file(of_run):
        return f"{shown(preset)} is the folder of a run: give its settings, {of_run}"
    return (
        f"{shown(preset)} is neither a file nor a preset ({', '.join(shipped)}){suggestion(preset, shipped)}"
    )


def _read_table(preset: str) -> dict[str, Any]:
    shipped = preset_names()
    if preset in shipped:
        file = resources.files("tunit") / "presets" / f"{preset}.toml"
    elif not is_file(expand_home(preset)):
        raise ConfigError(_unknown(preset))
    try:
        text = (
            file.read_text("utf-8")
            if preset in shipped
            else read_text(expand_home(preset), LARGEST_FILE, KEEP_OTHER_BYTES)
        )
        return without_removed(parse_toml(text.replace("\r\n", "\n")), preset)
    except UnreadableError as error:
        raise ConfigError(f"{preset} is not valid TOML: {error}") from None


def _full(name: str) -> str:
    """The current SECTION.NAME of a setting."""
    section, f = find_field(name)
    return f"{section}.{f.name}"
