"""The pixels of a sharded set: rows are read from the shards when needed, and compared with their hashes.

Pictures from a store are cached in a file on this machine, up to a limit. When the file is full, nothing in it is
replaced: each epoch reads every picture once, so newer pictures are not needed sooner than older ones. The file has
no name, so the system deletes it when the process ends, even after kill -9.
"""

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.index import Index, Shards, hash_of_bytes
from tunit.data.finding.places import Place, free_bytes, local_scratch, place_of
from tunit.data.finding.shard_format import span_of
from tunit.errors import ConfigError, StoreError
from tunit.printing import shown

CACHE_GB = "TUNIT_SHARD_CACHE_GB"
_DEFAULT_GB = 20.0
_AT_ONCE = 128  # pictures that are requested at the same time
_SPARE = 1 << 30  # bytes of the disk that the cache leaves free


class ShardedImages:
    """(N, S, S, 3) uint8, used like the memory map of a pack: a row, a slice or an array of rows gives an array."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, place: Place, index: Index, shards: Shards, keep_bytes: int | None = None) -> None:
        self._place, self._index, self._shards = place, index, shards
        self.shape = (len(index.names), index.size, index.size, 3)
        # A lock, because two threads read: one reads the next batch in advance, the other reads pictures for sample
        # grids and evaluation.
        self._lock = threading.Lock()
        self._cache = _DiskCache(*self.shape[:2], keep_limit() if keep_bytes is None else keep_bytes)

    @classmethod
    def of(cls, index: Index, folder: Path) -> "ShardedImages":
        """The pixels that belong to an index."""
        assert index.shards is not None
        return cls(place_of(index.shards.root or folder), index, index.shards)

    @property
    def nbytes(self) -> int:
        """The bytes of all pictures."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        chosen = np.arange(len(self))[rows]
        squares = self._read(np.atleast_1d(chosen).ravel())
        return squares.reshape(*np.shape(chosen), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.asarray(self[:], dtype=dtype)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with self._lock:
            missing: dict[int, list[int]] = {}
            for i, row in enumerate(rows.tolist()):
                if not (self._place.far and self._cache.read(row, self._index.hashes[row], found[i])):
                    missing.setdefault(row, []).append(i)
            wanted = sorted(missing, key=lambda row: self._shards.places[row])
            for begin in range(0, len(wanted), _AT_ONCE):
                self._fetch(wanted[begin : begin + _AT_ONCE], missing, found)
        return found

    def _fetch(self, wanted: list[int], targets: dict[int, list[int]], found: NDArray[np.uint8]) -> None:
        spans = [span_of(self._shards.places[row], self._shards.each, self._index.size) for row in wanted]
        for row, (name, begin, _), data in zip(wanted, spans, self._place.spans(spans), strict=True):
            if hash_of_bytes(data) != self._index.hashes[row]:
                raise StoreError(
                    f"{self._place.where}/{name} does not hold {shown(self._index.names[row])} at byte {begin:,}",
                    "the shards are damaged, or were replaced, so restore them, or remove this one and prepare them "
                    "again",
                )
            for i in targets[row]:
                found[i] = np.frombuffer(data, np.uint8).reshape(self.shape[1:])
            if self._place.far:
                self._cache.write(row, data)


def is_whole(place: Place, index: Index) -> bool:
    """Whether the shards of an index are all there. In a folder, every picture is compared with its hash, too; to
    read a whole store would take too long.
    """
    assert index.shards is not None
    each = index.shards.each
    if not {span_of(number, each, index.size)[0] for number in index.shards.places} <= place.names():
        return False
    images = ShardedImages(place, index, index.shards, 0)
    try:
        for begin in range(0, 0 if place.far else len(images), _AT_ONCE):
            images[begin : begin + _AT_ONCE]
    except StoreError:
        return False
    return True


class _DiskCache:
    """Squares in a file without a name, in the order of arrival, until the file is full.

    Only one thread at a time may use it.
    """

    def __init__(self, count: int, size: int, limit: int) -> None:
        self._record = size * size * 3
        self._room = min(count, limit // self._record)
        self._slots = np.full(count, -1, np.int32)
        self._next, self._file = 0, -1
        self._folder = Path()  # of the file

    def read(self, row: int, pixel_hash: str, into: NDArray[np.uint8]) -> bool:
        """Copy the square of a row to `into`. Returns whether it is in the file and undamaged."""
        if self._slots[row] < 0:
            return False
        data = _read_at(self._file, self._record, int(self._slots[row]) * self._record)
        if hash_of_bytes(data) != pixel_hash:
            return False
        into[:] = np.frombuffer(data, np.uint8).reshape(into.shape)
        return True

    def write(self, row: int, data: bytes) -> None:
        """Store a square, if there is space for it."""
        if self._slots[row] >= 0 or self._next >= self._room:
            return
        try:
            if self._file < 0:
                self._folder = local_scratch()
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    self._file = os.dup(file.fileno())
            # Each time, because other programs, and other processes of this training, fill the disk, too.
            if free_bytes(self._folder) < _SPARE + self._record:
                raise OSError("the disk is nearly full")
            if _write_at(self._file, data, self._next * self._record) < len(data):
                raise OSError("the disk is full")
        except OSError:  # pictures are read from the store instead
            self._room = self._next
            return
        self._slots[row], self._next = self._next, self._next + 1

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


# Windows has neither pread nor pwrite. Where they exist they are used, because a forked process shares the position
# in the file.


def _read_at(file: int, count: int, begin: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, count, begin)
    os.lseek(file, begin, os.SEEK_SET)
    return os.read(file, count)


def _write_at(file: int, data: bytes, begin: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, begin)
    os.lseek(file, begin, os.SEEK_SET)
    return os.write(file, data)


def keep_limit() -> int:
    """Bytes of this machine's disk that this process may use for pictures from stores. Raises ConfigError."""
    given = os.environ.get(CACHE_GB, "")
    try:
        limit = float(given) if given else _DEFAULT_GB
        if not 0 <= limit < 1e9:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{CACHE_GB} is {shown(given)}: give gigabytes, such as 20, or 0 to keep nothing"
        ) from None
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return int(limit * 1e9) // max(1, int(processes) if processes.isdigit() else 1)


__all__ = ["CACHE_GB", "ShardedImages", "is_whole", "keep_limit"]
