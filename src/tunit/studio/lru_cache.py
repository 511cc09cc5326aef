"""A cache for values that are made from files. The last few values are kept; keys contain the stamps of files."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")
Stamp = tuple[int, int, int]


class LRUCache(Generic[Value]):
    """The `most` values that were used last, by key. If several threads need a value at once, only one makes it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; if it is not kept, `make` makes it. Errors of `make` are raised, and nothing is
        kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            except BaseException:
                with self._lock:
                    self._making.pop(key, None)
                raise
            # Both at once: without a lock and a value another thread would make a second value.
            with self._lock:
                self._making.pop(key, None)
                self._values[key] = value
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
            return value


def stamp_of(path: Path) -> Stamp:
    """A value that changes when a file changes; zeros if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
