"""The program: `tunit`, or `python -m tunit`. Ctrl-C ends it without a traceback, even while it is loading."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from tunit.cli import main as run

        return run()
    except KeyboardInterrupt:  # before the command line could take it
        print("tunit: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
