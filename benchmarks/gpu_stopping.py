"""gpu.py train: stop work when its time is over, so that it can be continued by another call."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunit.errors import StopNow


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Inside, the process gets SIGTERM after this time. A training then saves its state and raises Interrupted;
    anything else is ended by StopNow.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise StopNow(number)

    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(max(seconds, 1.0), lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
