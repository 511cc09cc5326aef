"""The program: `tunit`, or `python -m tunit`. Ctrl-C while it is being loaded is no more than a word, too."""

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
