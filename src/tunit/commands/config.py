"""Show a preset with all its settings, or what it changes.

tunit config                 the names of all presets
tunit config paper           every setting of a preset, as TOML
tunit config demo --changes  only what differs from the paper's setting
"""

import argparse

from tunit.printing import show

HELP = "show the presets and their settings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit config`."""
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="a preset or a TOML file")
    parser.add_argument("--changes", action="store_true", help="only what differs from the paper's setting")


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit config`."""
    from tunit.config import Config, all_fields, preset_names, read_config
    from tunit.errors import ConfigError

    if args.preset is None and args.changes:
        raise ConfigError(
            "--changes has no effect without a preset: name one, as in `tunit config default --changes`"
        )
    if args.preset is None:
        show(*preset_names())
        return 0
    config = read_config(args.preset)
    if not args.changes:
        show(*config.to_toml().split("\n")[:-1])
        return 0
    paper = Config()
    for name, (section, _) in all_fields().items():
        ours, theirs = (each.word(name) for each in (config, paper))
        if ours != theirs:
            show(f"{section}.{name}: {ours} (paper: {theirs})")
    return 0
