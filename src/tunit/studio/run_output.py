"""E's output for a run's own pictures, kept in a file in RUN/studio/.

The file says from which model and which pictures it was made, and is not used if one of them changes. It can be
removed at any time.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.errors import RunError
from tunit.files.reading import Record, UnreadableError
from tunit.networks.tensor_file import Kinds, read_tensors, write_tensors

NAME, FORMAT = "seen.safetensors", 2  # in format 1, outlier scores came from style codes


@dataclass(frozen=True)
class RunOutput:
    """E's output for N pictures of a run, and their places on the map."""

    rows: NDArray[np.int64]  # (N,), rows of the pack
    domains: NDArray[np.int64]  # (N,), the likeliest domain
    confidences: NDArray[np.float32]  # (N,), its probability
    outliers: NDArray[np.float32]  # (N,), from 0 to 1
    styles: Tensor  # (N, style width)
    points: NDArray[np.float32] | None  # (N, 2), in [0, 1] x [0, 1]: the map; None while it is not yet drawn

    def place_of(self, row: int) -> int | None:
        """The index, among the N, of a picture of the pack; None if it is not among them."""
        place = int(np.searchsorted(self.rows, row))
        return place if place < len(self.rows) and self.rows[place] == row else None

    def neighbours(self, place: int, number: int) -> list[tuple[int, float]]:
        """The pictures nearest in style to one of the N: (index among the N, distance), the nearest first."""
        apart = (self.styles - self.styles[place]).square().sum(1).sqrt()
        apart[place] = torch.inf
        nearest = apart.topk(min(number, len(apart) - 1), largest=False)
        return list(zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True))


def checksum(path: Path) -> str:
    """A checksum of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of(hashes: list[str]) -> str:
    """One hash for all pictures of a pack."""
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def write_output(path: Path, output: RunOutput, about: dict[str, object]) -> None:
    """Write the file. about: from which model and which pictures it was made. Raises RunError."""
    arrays = {
        name: getattr(output, name) for name in ("rows", "domains", "confidences", "outliers", "points")
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    write_tensors(path, tensors | {"styles": output.styles}, about)


def read_output(path: Path, about: dict[str, object], number: int, width: int) -> RunOutput | None:
    """The content of the file; None if it is missing or damaged, or belongs to another model or other pictures."""

    def check(found: Record, kinds: Kinds) -> None:
        """Raises UnreadableError if the file belongs to another model or other pictures."""
        whole = {"rows": torch.int64, "domains": torch.int64}
        one = whole | {"confidences": torch.float32, "outliers": torch.float32}
        expected: Kinds = {name: ((number,), kind) for name, kind in one.items()}
        expected |= {"styles": ((number, width), torch.float32), "points": ((number, 2), torch.float32)}
        if found.values != about or kinds != expected:
            raise UnreadableError("it belongs to another model, or to other pictures")

    if not path.is_file():
        return None
    try:
        tensors, _ = read_tensors(path, check)
    except RunError:
        return None
    styles = tensors.pop("styles")
    return RunOutput(styles=styles, **{name: tensor.numpy() for name, tensor in tensors.items()})
