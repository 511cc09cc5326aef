"""Flags that take several numbers, such as --crop-area 0.3 0.9, or "auto" once for all of them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from tunit.config.fields import AUTO_WORD


class SeveralNumbers(argparse.Action):
    """Stores the numbers after a flag as one text, "0.3 0.9"; or "auto", which `spread` has written for each."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the text in the namespace. values: the words after the flag."""
        words = list(values or ())
        setattr(namespace, self.dest, AUTO_WORD if set(words) == {AUTO_WORD} else " ".join(words))


def spread(words: Sequence[str], actions: Mapping[str, argparse.Action]) -> list[str]:
    """The words of the command line, with "auto" after a flag of several numbers once for each of them, because
    argparse counts what follows a flag.

    actions: flag -> what argparse does with it, for all flags of the command.
    """
    written: list[str] = []
    number = 0  # how many numbers the flag before takes
    for word in words:
        flag, given, value = word.partition("=")
        if given and value == AUTO_WORD and (times := _numbers_after(flag, actions)):
            written += [flag, *[AUTO_WORD] * times]
        else:
            written += [word] * (number if word == AUTO_WORD and number else 1)
        number = _numbers_after(word, actions)
    return written


def _numbers_after(flag: str, actions: Mapping[str, argparse.Action]) -> int:
    """How many numbers a flag, or an unambiguous beginning of it, takes; 0 if it is not a flag of several numbers."""
    meant = [flag] if flag in actions else [known for known in actions if known.startswith(flag)]
    if not flag.startswith("--") or flag == "--" or len(meant) != 1:
        return 0
    action = actions[meant[0]]
    return action.nargs if isinstance(action, SeveralNumbers) and isinstance(action.nargs, int) else 0
