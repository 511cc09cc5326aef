"""Find, read and write published checkpoints.

A published checkpoint is a pickle, and a pickle can call any Python function when it is loaded. `files/pickles.py`
reads it without running code.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunit.errors import RunError
from tunit.files.atomic import replacing, writable
from tunit.files.pickles import PickleError, RefusedPickle, read_pickle
from tunit.files.reading import MEBIBYTE, UnreadableError, read_text

NEWEST = "checkpoint.txt"  # its last line names the newest file of a folder


def find_checkpoint(path: Path) -> Path:
    """`path` itself or, for a folder, the checkpoint that its checkpoint.txt names last.

    Raises RunError if there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise RunError(f"{path} does not exist: give a published model_*.ckpt file, or its folder")
    if not (path / NEWEST).is_file():
        raise RunError(f"{path} holds no {NEWEST}: give one of its model_*.ckpt files by name")
    try:
        text = read_text(path / NEWEST, MEBIBYTE, "replace")
    except UnreadableError as error:
        raise RunError(
            f"{path / NEWEST} cannot be read ({error}): give a model_*.ckpt file by name"
        ) from None
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line]
    if not named:
        raise RunError(f"{path / NEWEST} names no file: give a model_*.ckpt file by name")
    # The path was valid on the machine that trained, so only its file name is used.
    newest = path / re.split(r"[/\\]", named[-1])[-1]
    if not newest.is_file():
        raise RunError(
            f"{newest}, which {NEWEST} names last, does not exist: give a model_*.ckpt file by name"
        )
    return newest


def read_published(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`. Tensors are on the CPU, memory-mapped from the file if possible.

    Raises RunError if the file is of another kind, truncated or damaged, or if reading it would run code.
    """
    try:
        content = read_pickle(path)
    except RefusedPickle as error:
        raise RunError(f"{path} is refused: {error}: take the file from the authors") from None
    except (PickleError, OSError) as error:
        raise RunError(
            f"{path} is damaged or not a checkpoint ({error}): copy or download it again"
        ) from None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not a checkpoint: give a model_*.ckpt file")
    return content


def is_published(path: Path) -> bool:
    """Whether a file can be read as a checkpoint."""
    try:
        read_published(path)
    except RunError:
        return False
    return True


def write_published(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save`, atomically: `path` does not change until the file is complete."""
    with writable(path), replacing(path) as partial:
        try:
            with partial.open("wb") as file:
                torch.save(dict(content), file)
        except RuntimeError as error:  # PyTorch's writer hides the system's own error
            raise OSError(str(error).partition("\n")[0]) from None
