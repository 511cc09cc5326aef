"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, say how to resume. A second signal stops at once."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tunit.errors import StopNow, TunitError
from tunit.printing import command


class Interrupted(TunitError):
    """Training stopped at a signal, with everything saved."""

    def __init__(self, number: int, run: Path, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, all saved: "
            f"go on with `{command('train', '--resume', run)}`"
        )
        self.exit_code = 128 + number


class StopSignals:
    """Inside the block, SIGINT and SIGTERM set `received` instead of ending the process.

    A second signal raises StopNow. With `at_once`, for work that has nothing to save, the first one does.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.received: int | None = None
        self._at_once = at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Only the main thread may set handlers. In other threads (of a notebook, of a server) signals stay as they
        # are.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self.received is not None:
            raise StopNow(number)
        self.received = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
