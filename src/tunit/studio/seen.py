"""E's output for a run's own pictures: computed once, in a separate thread, and kept in a file in RUN/studio/.

The file says from which model and which pictures it was made, and is made again if one of them changes. It can be
removed at any time.
"""

import hashlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.outliers import outlier_scores
from tunit.data.packing.packed import PackedPictures
from tunit.destination import STUDIO
from tunit.errors import RunError, TunitError
from tunit.failures import sentence_of
from tunit.files import writable
from tunit.methods.inference import evenly_spread, guidance_over, in_batches
from tunit.methods.model_file import TENSORS, Model
from tunit.networks.guide import Guidance
from tunit.networks.tensor_file import Kinds, read_tensors, write_tensors
from tunit.reading import Record, UnreadableError
from tunit.reporting.style_map import placed
from tunit.studio.answers import UNEXPECTED
from tunit.studio.workspace import Run

NAME, FORMAT = "seen.safetensors", 1
MOST_SEEN = 20_000  # E's output is computed for at most this many pictures, evenly spread over the set
BATCH = 64
LOG = logging.getLogger("tunit.studio")
_TURN = threading.Lock()  # one look at a time: each uses all cores


@dataclass(frozen=True)
class Seen:
    """E's output for N pictures of a run, and their places on the map."""

    rows: NDArray[np.int64]  # (N,), rows of the pack
    domains: NDArray[np.int64]  # (N,), the likeliest domain
    confidences: NDArray[np.float32]  # (N,), its probability
    outliers: NDArray[np.float32]  # (N,), from 0 to 1
    styles: Tensor  # (N, style width)
    points: NDArray[np.float32]  # (N, 2), in [0, 1] x [0, 1]: the map

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


class Look:
    """A thread that computes E's output for a run's pictures; `seen` is set after it has succeeded."""

    def __init__(self, run: Run, model: Model, packed: PackedPictures) -> None:
        self.total = min(len(packed.names), MOST_SEEN)
        self.done = 0
        self.seen: Seen | None = None
        self.error = ""  # why it failed, in one sentence
        self._run, self._model, self._packed = run, model, packed
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _work(self) -> None:
        try:
            with _TURN:
                self.seen = self._read_or_compute()
        except TunitError as error:
            self.error = str(error)
            LOG.warning("%s: %s", self._run.name, error)
        except Exception as error:
            self.error = sentence_of(error) or UNEXPECTED
            LOG.exception("E's output for the pictures of %s could not be computed", self._run.name)

    def _read_or_compute(self) -> Seen:
        path = self._run.path / STUDIO / NAME
        about = {
            "format": FORMAT,
            "model": checksum(self._run.path / TENSORS),
            "pictures": digest_of(self._packed.hashes),
            "most": MOST_SEEN,
        }
        seen = read_seen(path, about, self.total, self._model.settings.style_width)
        if seen is None:
            seen = self._compute()
            try:
                with writable(path):
                    path.parent.mkdir(exist_ok=True)
                _write(path, seen, about)
            except RunError as error:  # the run cannot be written to; the output is useful all the same
                LOG.warning("%s", error)
        return seen

    def _compute(self) -> Seen:
        rows = evenly_spread(len(self._packed.names), MOST_SEEN)
        parts = []
        device = self._model.domain_styles.device
        for batch in in_batches(self._packed.images, device, BATCH, rows):
            parts.append(guidance_over(self._model.guide, [batch]))
            self.done += len(batch)
        guidance = Guidance(torch.cat([p.logits for p in parts]), torch.cat([p.style for p in parts]))
        confidences, domains = guidance.logits.softmax(1).max(1)
        styles = guidance.style.contiguous()
        return Seen(
            rows,
            domains.numpy(),
            confidences.numpy(),
            outlier_scores(styles.numpy()).astype(np.float32),
            styles,
            placed(styles, seed=0).astype(np.float32),
        )


def checksum(path: Path) -> str:
    """A checksum of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of(hashes: list[str]) -> str:
    """One hash for all pictures of a pack."""
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def _write(path: Path, seen: Seen, about: dict[str, object]) -> None:
    arrays = {name: getattr(seen, name) for name in ("rows", "domains", "confidences", "outliers", "points")}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    write_tensors(path, tensors | {"styles": seen.styles}, about)


def read_seen(path: Path, about: dict[str, object], number: int, width: int) -> Seen | None:
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
    return Seen(styles=styles, **{name: tensor.numpy() for name, tensor in tensors.items()})
