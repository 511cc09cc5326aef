"""Stop a job at a chosen call of a function, as Ctrl-C does, and compare what jobs have written."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any


def stopping(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    """`function`, but after this many calls the next one raises KeyboardInterrupt in its place."""
    calls = count()

    def stop(*arguments: Any, **named: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    return stop


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder and its sub-folders, by its path inside."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
