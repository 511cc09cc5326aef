"""A journal: a file of JSON lines to which lines are only appended, so that no action is ever lost.

Every line is on the disk before `append` returns. A killed process, or a power cut, can leave a half-written last
line. Such a line was never acknowledged, and it is removed when the next one is written. Several threads and
processes may share a journal: a lock of the system (flock) lets them write one after the other.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tunit.errors import RunError, reason_of
from tunit.files.atomic import flush_folder, writable
from tunit.files.reading import UnreadableError, parse_json

LARGEST = 1 << 28  # bytes: about 100,000 actions on hundreds of pictures each

Entry = dict[str, Any]


class StaleError(RunError):
    """The author of an entry had not seen the newest entries."""

    def __init__(self, seen: int, now: int) -> None:
        super().__init__(
            f"the labels were changed in another tab or by somebody else (they are at action {now}, this page shows "
            f"action {seen}): look at the page as it is now, and repeat what you did"
        )
        self.now = now


class OtherModelError(StaleError):
    """The author had seen the domains of another model."""

    def __init__(self, now: int) -> None:
        RunError.__init__(
            self,
            "the run has a newer model, with other domains than this page shows: look at the page as it is now, and "
            "repeat what you did",
        )
        self.now = now


class ActionLog:
    """The entries of a file, in order. Several threads and processes may each have an ActionLog of the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._read_to = 0  # bytes
        self._lock = threading.Lock()

    def refresh(self) -> list[Entry]:
        """Read what was added since the last call. Returns all entries.

        Raises RunError if the file is damaged or cannot be read.
        """
        with self._lock:
            try:
                if self.path.exists():
                    with self.path.open("rb") as file:
                        self._read_on(file)
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be read ({reason_of(error)}): check its permissions, and that it is a file"
                ) from None
            return self.entries

    def append(self, entry: Entry, seen: int) -> None:
        """Append an entry and wait until it is on the disk. seen: how many entries its author knows.

        Raises StaleError if there are more, UnwritableError if writing fails; in both cases nothing is added.
        """
        data = (json.dumps(entry, ensure_ascii=True) + "\n").encode()
        with self._lock, writable(self.path):
            is_new = not self.path.exists()
            with self.path.open("a+b") as file, _alone(file):
                self._read_on(file)
                if seen != len(self.entries):
                    raise StaleError(seen, len(self.entries))
                if self._read_to + len(data) > LARGEST:
                    raise RunError(f"{self.path} is full ({LARGEST:,} bytes): begin again in a new run")
                file.truncate(self._read_to)  # removes a half-written line of a killed process
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), self._read_to)
                    raise
            if is_new:
                flush_folder(self.path.parent)
            self._read_to += len(data)
            self.entries.append(entry)

    def _read_on(self, file: BinaryIO) -> None:
        """Read the new complete lines. The last one may be damaged: then it was never acknowledged."""
        size = os.fstat(file.fileno()).st_size
        if size < self._read_to:
            raise RunError(f"{self.path} has become shorter: something else has written to it; restore it")
        if size > LARGEST:
            raise RunError(f"{self.path} has more than {LARGEST:,} bytes: move it away")
        file.seek(self._read_to)
        *lines, _ = file.read(LARGEST).split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_json(line.decode("utf-8"))
                if not isinstance(entry, dict):
                    raise UnreadableError("it is not an object")
            except (UnreadableError, UnicodeDecodeError) as error:
                if number == len(lines):
                    return
                raise RunError(
                    f"{self.path} is damaged at line {len(self.entries) + 1} ({error}): restore it, or move it away "
                    "to begin again"
                ) from None
            self.entries.append(entry)
            self._read_to += len(line) + 1


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Inside the block this process holds the file's lock. On a file system without locks there is no protection."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # such as a network file system without locks
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
