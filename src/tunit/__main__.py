"""The program: `tunit`, or `python -m tunit`. Ctrl-C ends it without a traceback, even while it is loading."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line; returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:  # another handler, such as that of background jobs, stays
            signal.signal(signal.SIGINT, _end)
        from tunit.cli import main as run

        signal.signal(signal.SIGINT, before)
        return run()
    except KeyboardInterrupt:  # before the command line handles Ctrl-C itself
        _say()
        return 130


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has started yet, and some modules would catch an exception while they load."""
    _say()
    os._exit(128 + number)


def _say() -> None:
    if os.environ.get("RANK", "0") == "0":  # if several processes train together, only rank 0 prints
        print("tunit: interrupted", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
