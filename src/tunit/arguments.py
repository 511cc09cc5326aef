"""Parse the command line: an error is one sentence that suggests the nearest valid word; in paths `~` works, and an
empty one is refused.
"""

import argparse
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from tunit.commands.several_numbers import spread
from tunit.config import suggestion
from tunit.config.methods import was_removed
from tunit.errors import ConfigError
from tunit.files.paths import expand_home, path_or_url
from tunit.printing import remark

_FLAG = re.compile(r"--?[A-Za-z][\w-]*")
_CHOICE = re.compile(
    r"argument (?P<name>.+): invalid choice: '(?P<given>.*)' \(choose from (?P<known>.*)\)", re.S
)
_TOO_MANY = re.compile(r"unrecognized arguments: (?P<words>.*)", re.S)
# The form of the messages in commands/numbers.py.
_NUMBER = re.compile(r"argument (?P<name>.+?): (?P<what>is .*: take .*)", re.S)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence with exit code 2, without a long usage text."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # How the arguments with `type=Path` or `type=path_or_url` are read.
        self.register("type", Path, _path)
        self.register("type", path_or_url, _path_or_url)

    def parse_known_args(  # type: ignore[override] # argparse's own signature is an overload
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As in argparse, but an unknown flag is reported first: it can make another argument seem missing."""
        if args is not None and self._subparsers is None:
            self._refuse_unknown(args)
            args = spread(args, self._option_string_actions)
        elif args is not None:  # the flags before the command
            self._refuse_unknown(list(takewhile(lambda word: word.startswith("-"), args)))
        return super().parse_known_args(args, namespace)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        flags = [flag for flag in self._option_string_actions if flag.startswith("-")]
        for word in words:
            if word == "--":
                return
            given = word.partition("=")[0]
            if " " in word or not _FLAG.fullmatch(given) or given in flags:
                continue
            if given.startswith("--") and any(flag.startswith(given) for flag in flags):
                continue  # argparse accepts the beginning of a flag instead of the whole
            # Compared without the dashes, which would make all flags similar, such as --dry-run and --held-out.
            names = [flag.removeprefix("--") for flag in flags if flag.startswith("--")]
            bare = given.lstrip("-").replace("_", "-")
            close = was_removed(bare) or suggestion(bare, names, prefix="--")
            self.error(f"unknown flag {given}{close or f': {self.prog} --help shows all'}")

    def error(self, message: str) -> NoReturn:
        """Print one sentence on standard error and end with exit code 2. For a number that is none, or out of its
        range, raise ConfigError.
        """
        number = _NUMBER.fullmatch(message)
        if number:
            raise ConfigError(f"{number['name']} {number['what']}")
        match = _TOO_MANY.fullmatch(message)
        if match:
            message = (
                f"too many words ({match['words']}): leave them out, or put a path with spaces in quotes"
            )
        match = _CHOICE.fullmatch(message)
        if match:
            known = [word.strip(" '") for word in match["known"].split(",")]
            given, name = match["given"], match["name"]
            message = f"{name} is {given!r}: take one of {', '.join(known)}{suggestion(given, known)}"
        remark(message, name=f"{self.prog}: ")
        raise SystemExit(2)


def _path(text: str) -> Path:
    return expand_home(_not_empty(text))


def _path_or_url(text: str) -> Path | str:
    return path_or_url(_not_empty(text))


def _not_empty(text: str) -> str:
    """The text of a path, which is not empty: Python would take that for the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("is '': take a path, such as . for the working folder")
    return text
