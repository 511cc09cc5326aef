"""A journal of the finished steps of a job, from which the next job can continue if this one is killed.

The first line of JSON describes the job, and each line after it is one finished step: JSON, a tab, and a checksum of
the JSON, because a changed byte may leave valid JSON. Lines are only added at the end, so a kill leaves at most one
incomplete line. Lines are not flushed to the disk one by one. After a power cut, lines may therefore be missing, and
so may results that a line describes: the next job must check whether the results exist.
"""

import json
import threading
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from tunit.files.reading import parse_json

_LONGEST_HEAD = 1 << 20  # bytes


class WorkJournal:
    """The steps of the job that `about` (a JSON value) describes. Several threads may add steps."""

    def __init__(self, path: Path, about: Any) -> None:
        self._path = path
        self._head = json.dumps(about).encode() + b"\n"
        self._ends = [len(self._head)]  # positions in the file after the head and after each line
        self._file: FileIO | None = None
        self._lock = threading.Lock()

    def steps(self) -> Iterator[Any]:
        """The steps that an earlier job of the same description has left, up to the first damaged line."""
        del self._ends[1:]
        try:
            with self._path.open("rb") as file:
                if file.readline(_LONGEST_HEAD) != self._head:
                    return
                for line in file:
                    text, tab, checksum = line.removesuffix(b"\n").partition(b"\t")
                    # Development versions before 0.1.0 wrote no checksum.
                    if not line.endswith(b"\n") or (tab and checksum != _checksum(text)):
                        return
                    step = parse_json(text.decode("utf-8"))
                    self._ends.append(self._ends[-1] + len(line))
                    yield step
        except (OSError, ValueError):  # missing, or damaged from here on
            return

    def begin(self, keep: int = 0) -> None:
        """Open the file for `add`, and keep the first `keep` of the steps that were read. Raises OSError."""
        if keep:
            self._file = FileIO(self._path, "r+")
            self._file.truncate(self._ends[keep])
            self._file.seek(self._ends[keep])
        else:
            self._file = FileIO(self._path, "w")
            self._file.write(self._head)

    def add(self, step: Any) -> None:
        """Add a finished step. Raises OSError; then nothing was added."""
        text = json.dumps(step).encode()
        line = memoryview(text + b"\t" + _checksum(text) + b"\n")
        with self._lock:
            if self._file is None:
                raise ValueError("the journal was not opened by `begin`")
            end = self._file.tell()
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                self._file.seek(end)
                raise

    def close(self) -> None:
        """Close the file; the journal stays."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Close and remove the file."""
        self.close()
        self._path.unlink(missing_ok=True)


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
