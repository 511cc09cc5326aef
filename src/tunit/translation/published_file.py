"""A checkpoint of the authors' release as a file: found, read without running code from it, and written.

Such a file is a pickle, which may name any Python function to call. It is read with PyTorch's restricted
unpickler, which knows tensors and plain containers only, so that a file of unknown origin cannot run anything.
"""

import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunit.errors import RunError
from tunit.files import replacing, writable

NEWEST = "checkpoint.txt"  # its last line names the newest file of a folder
ZIP, LEGACY_PICKLE = b"PK", b"\x80"  # how files of torch.save begin, from PyTorch 1.6 on and before


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that `path` is or, for a folder, that its checkpoint.txt names last.

    Raises RunError where there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise RunError(f"{path} does not exist: give a model_*.ckpt file of the release, or its folder")
    if not (path / NEWEST).is_file():
        raise RunError(f"{path} holds no {NEWEST}: give one of its model_*.ckpt files by name")
    lines = [line.strip() for line in (path / NEWEST).read_text("utf-8", errors="replace").splitlines()]
    named = [line for line in lines if line]
    if not named:
        raise RunError(f"{path / NEWEST} names no file: give a model_*.ckpt file by name")
    newest = (
        path / re.split(r"[/\\]", named[-1])[-1]
    )  # the path, if it has one, is of the machine that trained
    if not newest.is_file():
        raise RunError(
            f"{newest}, which {NEWEST} names last, does not exist: give a model_*.ckpt file by name"
        )
    return newest


def read_published(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`, its tensors on the CPU, mapped from the file where possible.

    Raises RunError where the file is of another kind, truncated or damaged, or where reading it would run code.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if not start.startswith((ZIP, LEGACY_PICKLE)):
        raise RunError(f"{path} is not a file of torch.save: give a model_*.ckpt file of the release")
    zipped = zipfile.is_zipfile(path)
    if start.startswith(ZIP) and not zipped:
        raise RunError(f"{path} is truncated (the end of the file is missing): copy or download it again")
    try:
        if zipped:
            _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch.save has not written: they fail below
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise RunError(f"{path} is refused: {_what_it_wanted(str(error))}") from None
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise RunError(f"{path} is damaged or no checkpoint ({reason}): copy or download it again") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not a checkpoint: give a model_*.ckpt file")
    return content


def write_published(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save`, atomically: until the file is whole, `path` does not change."""
    with writable(path), replacing(path) as partial:
        try:
            with partial.open("wb") as file:
                torch.save(dict(content), file)
        except RuntimeError as error:  # of PyTorch's writer, in which the system's own is lost
            raise OSError(str(error).partition("\n")[0]) from None


def _check_sums(path: Path) -> None:
    """torch.load does not look at the checksums that torch.save has written."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(str(error)) from None
    if damaged is not None:
        raise ValueError(f"the checksum of its part {damaged} differs")


def _what_it_wanted(message: str) -> str:
    """Why PyTorch's restricted unpickler stopped, from its message."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    if found:
        return (
            f"reading it would run code ({found.group(1)}), which a checkpoint does not need, "
            "so nothing of it was run: take the file from the authors, or save its tensors alone"
        )
    return (
        "it is damaged, or a pickle of something else than tensors: give a model_*.ckpt file of the release"
    )
