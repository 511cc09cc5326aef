"""Batches of packed pictures: endless, seeded and resumable.

A stream (all pictures, the labelled ones, or the unlabelled ones) is an endless sequence of epochs, each a
permutation drawn from (seed, stream, epoch). The position in a stream is the cursor: the number of pictures drawn so
far. The cursors are part of the training state, so that a resumed run continues exactly there.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.config import AugmentConfig
from tunit.data.batching.augment import to_float, two_views
from tunit.data.batching.randomness import Share, numpy_generator, torch_generator
from tunit.distributed.collectives import rows_of_rank
from tunit.distributed.launcher import ranks_of_machine
from tunit.errors import DataError
from tunit.machine import room_for_pictures, to_device

COPIED = 1 << 26  # bytes of pictures that are copied to the device at a time
# What to say if a stream has no pictures.
EMPTY = {
    "all": "there are no pictures",
    "labelled": (
        "no picture has a label, but some steps sample only labelled pictures (--labelled-ratio, "
        "--labelled-only-until): give labels by --labels, or set both to 0"
    ),
    "unlabelled": (
        "all pictures have labels, but some steps sample only unlabelled pictures (--labelled-ratio): "
        "set --labelled-ratio 0"
    ),
}


@dataclass(frozen=True)
class Batch:
    """The pictures and labels for one step."""

    # (b, 3, S, S) in [-1, 1]; b is B or, if several processes train together, this process's share of it. Random
    # views are smaller if E sees smaller pictures (`Batches`, view_side).
    x: Tensor
    x_plus: Tensor  # as x: random views of the same pictures or, with --neighbours, of neighbours
    y: Tensor  # (B,) int64 labels; -1 is unlabelled
    # These are Python bools, so that a step can leave out a loss that has no pictures without waiting for the GPU.
    any_labelled: bool
    any_unlabelled: bool
    index: Tensor | None = None  # (B,) int64: the pictures' rows in the pack; None if they come from no pack


def make_batch(x: Tensor, x_plus: Tensor, y: Tensor, index: Tensor | None = None) -> Batch:
    """A batch of x, x_plus (B, 3, S, S), with labels y and indices (B,) on the CPU, which are copied to x's device.

    If several processes train together, each keeps its share of the pictures.
    """
    local = rows_of_rank(len(x))
    return _batch_of_share(x[local], x_plus[local], y, index)


def _batch_of_share(x: Tensor, x_plus: Tensor, y: Tensor, index: Tensor | None) -> Batch:
    """A batch of this process's pictures, with the labels and indices of the whole batch."""
    index = None if index is None else to_device(index, x.device)
    return Batch(x, x_plus, to_device(y, x.device), bool((y >= 0).any()), bool((y < 0).any()), index)


class Batches:
    """Batches of packed pictures.

    images: (N, S, S, 3) uint8, an array or memory map. If they take at most `resident_bytes` (None: a share of the
    free memory, which the processes of this machine divide among them), they are copied to the device once. If not,
    each batch is read when it is needed, and a thread reads in advance the batch that probably comes next from the
    same stream. labels: (N,) int64, -1 if unlabelled. view_side: larger random views are shrunk to it, because E sees
    them so (`GuidingNetwork.image_size`); 0: none is.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        augment: AugmentConfig,
        *,
        seed: int,
        device: torch.device,
        resident_bytes: int | None = None,
        view_side: int = 0,
    ) -> None:
        self._augment, self._seed, self._device, self._view_side = augment, seed, device, view_side
        self._images: NDArray[np.uint8] | Tensor = images
        if resident_bytes is None:
            resident_bytes = room_for_pictures(device, ranks_of_machine())
        if images.nbytes <= resident_bytes:
            self._images = _copied(images, device)
        self._labels = np.asarray(labels)
        self._members = {
            "all": np.arange(len(labels)),
            "labelled": np.flatnonzero(self._labels >= 0),
            "unlabelled": np.flatnonzero(self._labels < 0),
        }
        self._orders: dict[str, tuple[int, NDArray[np.int64]]] = {}
        self._reader: ThreadPoolExecutor | None = None
        # What is read in advance, for each stream: from which position, how many pictures, which of them.
        self._guesses: dict[str, tuple[tuple[int, int, slice], Future[Tensor]]] = {}

    def draw(
        self,
        counter: int,
        size: int,
        cursors: dict[str, int],
        stream: str = "all",
        *,
        neighbours: Tensor | None = None,
        both: bool = False,
    ) -> Batch:
        """The batch of `size` pictures whose random numbers have this counter (`counter_of_step`, `CounterStart`). It
        begins at the stream's cursor, which advances by `size`.

        If several processes train together, each reads and transforms only its share of the pictures. neighbours: (N,
        k) int64 on the CPU; x+ of an unlabelled picture is then a view of one of its k neighbours, chosen at random,
        and x+ of a labelled picture stays a view of itself.
        both: transform x at random, too (`two_views`).
        """
        cursor, share = cursors.get(stream, 0), Share(size, rows_of_rank(size))
        rows = self.rows(stream, cursor, size)
        if isinstance(self._images, Tensor):
            pictures = self._pictures(rows[share.rows])
        else:
            pictures = self._streamed(stream, cursor, size)
        partners = None
        # In a batch with labels only, every picture is its own partner, and need not be read twice.
        if neighbours is not None and (self._labels[rows] < 0).any():
            chosen = self._chosen(neighbours, rows, numpy_generator(self._seed, "neighbours", counter))
            partners = to_float(self._pictures(chosen[share.rows]))
        x, x_plus = two_views(
            to_float(pictures),
            self._augment,
            torch_generator(self._seed, "views", counter),
            partners=partners,
            both=both,
            share=share,
            side=self._view_side,
        )
        # The cursor advances only now: if a picture cannot be read, the training is saved, and must draw this batch
        # again.
        cursors[stream] = cursor + size
        return _batch_of_share(x, x_plus, torch.from_numpy(self._labels[rows]), torch.from_numpy(rows))

    def rows(self, stream: str, cursor: int, size: int) -> NDArray[np.int64]:
        """Indices of the pictures at positions cursor ... cursor + size - 1 of a stream."""
        members = self._members[stream]
        if not len(members):
            raise DataError(EMPTY[stream])
        found: list[NDArray[np.int64]] = []
        while size > 0:
            epoch, start = divmod(cursor, len(members))
            part = self._order(stream, epoch)[start : start + size]
            found.append(members[part])
            cursor, size = cursor + len(part), size - len(part)
        return np.concatenate(found)

    def _chosen(
        self, neighbours: Tensor, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """One neighbour of each row; the row itself if it has a label."""
        places = rng.integers(neighbours.shape[1], size=len(rows))
        return np.where(self._labels[rows] < 0, neighbours[rows, places].numpy(), rows)

    def _pictures(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, S, S, 3) uint8 of these rows, on the device."""
        if isinstance(self._images, Tensor):
            return self._images[to_device(torch.from_numpy(rows), self._device)]
        return self._read(rows).to(self._device, non_blocking=True)

    def _order(self, stream: str, epoch: int) -> NDArray[np.int64]:
        known = self._orders.get(stream)
        if known is None or known[0] != epoch:
            rng = numpy_generator(self._seed, f"order/{stream}", epoch)
            known = (epoch, rng.permutation(len(self._members[stream])))
            self._orders[stream] = known
        return known[1]

    def _streamed(self, stream: str, cursor: int, size: int) -> Tensor:
        """This process's pictures of a batch, perhaps read in advance. Also starts to read those of the stream's next
        batch.

        Each stream has a guess of its own, because few-label training alternates between two streams. A wrong guess
        only costs time: the result depends on the cursor, never on what was read in advance.
        """
        local = rows_of_rank(size)
        guess = self._guesses.pop(stream, None)
        if guess is not None and guess[0] == (cursor, size, local):
            chosen = guess[1].result()
        else:
            chosen = self._read(self.rows(stream, cursor, size)[local])
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="tunit-read")
        coming = self.rows(stream, cursor + size, size)[local]
        # A guess also notes which part of the batch it is for. After a NaN each process reads a whole batch, to keep
        # it, and the guess that is made then is for the whole of the next batch.
        self._guesses[stream] = (cursor + size, size, local), self._reader.submit(self._read, coming)
        return chosen.to(self._device, non_blocking=True)

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, S, S, 3) uint8 on the CPU, read in the order of the file."""
        ordered, places = np.unique(rows, return_inverse=True)
        chosen = torch.from_numpy(np.ascontiguousarray(self._images[ordered]))[torch.from_numpy(places)]
        return chosen.pin_memory() if self._device.type == "cuda" else chosen


def _copied(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """All pictures (N, S, S, 3) on the device. At no time is there a second copy of more than a few of them."""
    copied = torch.empty(images.shape, dtype=torch.uint8, device=device)
    each = max(1, COPIED // max(1, math.prod(images.shape[1:])))
    for i in range(0, len(images), each):
        copied[i : i + each] = torch.from_numpy(np.array(images[i : i + each]))
    return copied


def batch_permutation(seed: int, counter: int, size: int) -> Tensor:
    """The permutation that makes a step's references from its sources, for the step's counter: (size,) int64, on the
    CPU.
    """
    return torch.randperm(size, generator=torch_generator(seed, "permutation", counter))
