"""The program: `tunit`, or `python -m tunit`. Ctrl-C ends it without a traceback, even while it is loading."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line; returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:  # else Ctrl-C is not for us, as in jobs of the background
            signal.signal(signal.SIGINT, _end)
        from tunit.cli import main as run

        signal.signal(signal.SIGINT, before)
        return run()
    except KeyboardInterrupt:  # before the command line could take it
        _say()
        return 130


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing is begun yet. An exception would be swallowed, or taken for another, by many an import."""
    _say()
    os._exit(128 + number)


def _say() -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes that train together, the first speaks
        print("tunit: interrupted", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
