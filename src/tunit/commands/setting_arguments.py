"""What several commands share: a flag for every setting of the config, and the progress bar of packing."""

import argparse
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from tunit.commands.several_numbers import SeveralNumbers
from tunit.config import all_fields
from tunit.config.config import section_types
from tunit.config.methods import METHODS, RENAMED

EXPLAINED = """\
{every} is a flag in one of the groups below. In brackets: its value in the
preset `paper`, which is the paper's wherever the paper gives one. The other presets
change some of them: `tunit config default --changes` lists what `default` changes."""


def add_settings(parser: argparse.ArgumentParser, refused: Collection[str] = ()) -> None:
    """Add --name VALUE for every setting, grouped by section. For a flag that is not given, `args` has no value.

    refused: settings that the command refuses with a sentence of its own, so that its help leaves them out.
    """
    # A heading with a text; the flags follow in their own groups.
    every = f"Every setting (except {', '.join(refused)})" if refused else "Every setting"
    parser.add_argument_group("settings", EXPLAINED.format(every=every))
    groups: dict[str, Any] = {}
    for name, (section, field) in all_fields().items():
        if section not in groups:
            groups[section] = parser.add_argument_group(title_of(section), about(section))
        group = groups[section]
        values = field.default if isinstance(field.default, tuple) else (field.default,)
        choices = f" ({', '.join(field.metadata['choices'])})" if field.metadata["choices"] else ""
        # A bool flag may stand alone, or be followed by true or false (or by 1 or 0, as in development versions
        # before 0.1.0).
        switch = isinstance(field.default, bool)
        default = str(field.default).lower() if switch else " ".join(map(str, values))
        options: dict[str, Any] = {
            "dest": f"set_{name}",
            "default": argparse.SUPPRESS,
            "nargs": "?" if switch else None,
            "const": "true" if switch else None,
            "metavar": "VALUE",
        }
        if len(values) > 1:
            options |= {"action": SeveralNumbers, "nargs": len(values)}
        words = f"{field.metadata['help']}{choices} [paper: {default or 'empty'}]".replace("%", "%%")
        shown = argparse.SUPPRESS if name in refused else words
        group.add_argument("--" + name.replace("_", "-"), help=shown, **options)
        for former in (old for old, new in RENAMED.items() if new == name):
            group.add_argument("--" + former.replace("_", "-"), help=argparse.SUPPRESS, **options)


def title_of(section: str) -> str:
    """The title of a section's flags; it names the methods if only some have this section."""
    readers = [method for method, sections in METHODS.items() if section in sections]
    return f"settings of {' and '.join(readers)} alone" if readers else f"settings: {section}"


def about(section: str) -> str:
    """What a section's settings are for: the first paragraph of its description, on one line."""
    return " ".join((section_types()[section].__doc__ or "").split("\n\n")[0].split())


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives: name -> text."""
    return {k.removeprefix("set_"): v for k, v in vars(args).items() if k.startswith("set_")}


class _NoBar(nullcontext[None]):
    """Replaces the bar if rich is missing."""

    def stop(self) -> None:
        """Do nothing."""


def packing_progress() -> tuple[Any, Callable[[int, int], None]]:
    """A progress bar as a context manager (hidden without a terminal or without rich), and a function that moves
    it.
    """
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return _NoBar(), lambda done, total: None
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("packing pictures", total=None)

    def move(done: int, total: int) -> None:
        """Move the bar."""
        bar.update(task, completed=done, total=total)

    return bar, move
