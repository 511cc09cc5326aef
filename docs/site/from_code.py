"""Parts of the site's pages that are made from the code: settings, commands, source files."""

import argparse
import ast
import dataclasses
from pathlib import Path
from typing import Any

from tunit.cli import COMMANDS, build_parser
from tunit.commands.setting_arguments import about, title_of
from tunit.config import Config, read_config
from tunit.config.config import section_types
from tunit.config.fields import toml_value

PRESETS = ("paper", "default", "small")
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".sh": "bash", ".toml": "toml"}


def settings_tables() -> str:
    """A table for each section: flag, value in some presets, allowed values, description."""
    configs = [read_config(name) for name in PRESETS]
    parts = []
    for section, kind in section_types().items():
        rows = [_setting_row(field, section, configs) for field in dataclasses.fields(kind)]
        head = f"| flag | {' | '.join(PRESETS)} | values | what it is |\n|---|---|---|---|---|---|"
        parts.append(f"## {title_of(section)}\n\n{about(section)}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _setting_row(field: "dataclasses.Field[Any]", section: str, configs: list[Config]) -> str:
    values = [getattr(config.section(section), field.name) for config in configs]
    named = {number: word for word, number in field.metadata["words"].items()}
    texts = [str(named.get(value, toml_value(value))).strip('"') for value in values]
    shown = [f"`{text}`" if text else "" for text in texts]
    cells = [f"`--{field.name.replace('_', '-')}`", *shown, _range_of(field), _cell(field.metadata["help"])]
    return "| " + " | ".join(cells) + " |"


def _range_of(field: "dataclasses.Field[Any]") -> str:
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if isinstance(field.default, bool):
        return "`true`, `false`"
    ends = [] if low is None else [f"from {low:,}"]
    ends += [] if high is None else [f"to {high:,}"]
    words = [f"`{word}`" for word in field.metadata["words"]]
    return ", ".join([" ".join(ends)] * bool(ends) + words) or ("text" if field.default == "" else "")


def command_pages() -> str:
    """Every command: its purpose, how to call it, and its flags except those of settings."""
    parser = build_parser()
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts = []
    for name in COMMANDS:
        command = subparsers.choices[name]
        flags = [a for a in command._actions if a.help != argparse.SUPPRESS]
        rows = [
            f"| {_names_of(action)} | {_cell(str(action.help) % {'default': action.default})} |"
            for action in flags
            if not action.dest.startswith("set_") and action.dest != "help"
        ]
        table = "\n".join(["| argument | what it is |", "|---|---|", *rows])
        parts.append(f"## tunit {name}\n\n```text\n{(command.description or '').strip()}\n```\n\n{table}")
    return "\n\n".join(parts)


def _names_of(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    names = action.option_strings or [str(value)]
    text = ", ".join(f"`{name}`" for name in names)
    return text + (f" `{value}`".replace("|", "&#124;") if action.option_strings and value else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def definitions(path: Path) -> dict[str, tuple[int, int]]:
    """The first and the last line, from 1, of every function and class of a Python file's first level."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, kinds)]
    return {
        node.name: (min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno or 0)
        for node in found
    }


def source_page(path: Path, shown_as: str) -> str:
    """A page with a source file. In Python, each function or class gets a heading, so that links can point at it."""
    language = LANGUAGES.get(path.suffix, "text")
    lines = path.read_text("utf-8").split("\n")
    parts = [f"# {shown_as}"]
    done = 0
    for name, (first, last) in definitions(path).items() if language == "python" else ():
        parts += [_fenced(lines[done : first - 1], language), f"## `{name}` {{#{name}}}"]
        parts.append(_fenced(lines[first - 1 : last], language))
        done = last
    parts.append(_fenced(lines[done:], language))
    return "\n\n".join(part for part in parts if part) + "\n"


def _fenced(lines: list[str], language: str) -> str:
    text = "\n".join(lines).strip("\n")
    return f"````{language}\n{text}\n````" if text else ""
