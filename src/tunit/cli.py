"""The command line: `tunit COMMAND`. An error that the user can correct is one sentence with exit code 2."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tunit._version import __version__
from tunit.arguments import Parser
from tunit.errors import EndedInOtherProcesses, RunError, TunitError, reason_of
from tunit.failures import TRACEBACK, sentence_of
from tunit.openmp_wait import sleep_soon
from tunit.printing import end_silence, protect_streams, remark, silence

COMMANDS = (
    "demo",
    "creatures",
    "prepare",
    "train",
    "domains",
    "translate",
    "evaluate",
    "report",
    "studio",
    "reproduce",
    "convert",
    "export",
    "push",
    "config",
)
FATAL_SIGNAL = 128  # plus the signal's number is the exit code, as in shells: 130 for Ctrl-C


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="tunit",
        description="Truly unsupervised image-to-image translation: finds the kinds in a folder of unlabelled "
        "pictures, and redraws any picture in the style of any other.",
        epilog="Begin with `tunit demo`; then `tunit train YOUR_FOLDER --out runs/mine`.",
    )
    parser.add_argument("--version", action="version", version=f"tunit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"tunit.commands.{name}")
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        return _run(argv)
    except KeyboardInterrupt as stop:  # also while modules are loaded
        remark("interrupted")
        return FATAL_SIGNAL + getattr(stop, "number", signal.SIGINT)


def _check_working_folder() -> None:
    """Raises RunError if the working folder was removed: then PyTorch ends the program with a message of its own."""
    try:
        Path.cwd()
    except OSError as error:
        raise RunError(
            f"the working folder cannot be used ({reason_of(error)}): it was moved or removed, so change into another"
        ) from None


def _run(argv: Sequence[str] | None) -> int:
    protect_streams()
    sleep_soon()
    if os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ:
        silence()  # other ranks print nothing
    try:
        args = build_parser().parse_args(argv)
        _check_working_folder()
        args.words = list(sys.argv[1:] if argv is None else argv)
        return int(args.run(args))
    except EndedInOtherProcesses as error:
        return error.exit_code
    except TunitError as error:
        if os.environ.get(TRACEBACK):
            raise
        remark(error)
        return 2
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            end_silence()
            raise
        remark(sentence)
        return 2


if __name__ == "__main__":
    sys.exit(main())
