"""TensorBoard event files, written by the training thread itself.

tensorboardX writes from a background thread. When the disk is full that thread dies silently, and training hangs once
its queue is full. Here the error is raised in the training loop.
"""

import itertools
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 10.0
_numbers = itertools.count()


class Events:
    """The scalars of a training. TensorBoard ignores what earlier files hold for steps from `purge_from` on."""

    def __init__(self, folder: Path, purge_from: int | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()[:100]
        name = f"events.out.tfevents.{time.time():.0f}.{host}.{os.getpid()}.{next(_numbers)}"
        self._records = RecordWriter(str(folder / name))
        self._flushed = time.monotonic()
        self._add(Event(file_version="brain.Event:2"))
        if purge_from is not None:
            self._add(Event(step=purge_from, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step. Raises OSError."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._add(Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write everything to the disk. Raises OSError."""
        self._records.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file; call `flush` first to learn of write errors."""
        with suppress(OSError):
            self._records.close()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
