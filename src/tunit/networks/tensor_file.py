"""Tensors to and from one safetensors file, atomically, with a checksum: no pickle anywhere.

safetensors notices a truncated file; the checksum notices any other damage.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from tunit.errors import RunError
from tunit.files import replacing, writable


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON values of `about`; until it is whole, `path` does not change.

    Raises RunError where it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    header = {"about": text, "crc32": str(_checksum(plain, text))}
    with writable(path), replacing(path) as partial:
        partial.touch()
        mode = (
            partial.stat().st_mode
        )  # as the user wants new files; safetensors' own are closed to all others
        try:
            save_file(plain, partial, metadata=header)
        except SafetensorError as error:
            raise OSError(str(error)) from None
        partial.chmod(mode)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the `about` of a file that `write_tensors` wrote.

    Raises RunError where the file is missing or damaged.
    """
    try:
        with _plain(path) as plain, safe_open(plain, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        about = json.loads(header["about"])
        whole = int(header["crc32"]) == _checksum(tensors, header["about"])
    except FileNotFoundError:
        raise RunError(f"{path} does not exist: check the run folder") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise RunError(f"{path} is damaged ({error}): take another checkpoint or train again") from None
    if not whole:
        raise RunError(f"{path} is damaged (its checksum differs): take another checkpoint or train again")
    return tensors, about


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """The path, or a link to it for a while: safetensors opens no path that is not UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder) / "tensors"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _checksum(tensors: Mapping[str, Tensor], about: str) -> int:
    crc = zlib.crc32(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(dtype=uint8).numpy().data, crc)
    return crc
