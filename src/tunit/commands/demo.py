"""Show in minutes all that tunit does, on synthetic pictures whose true domains and translations are known.

  tunit demo
  tunit demo --minutes 30 --seed 1 --out runs/longer

Draws cartoon creatures of six species, finds the species without labels, learns to redraw any creature as any other,
and measures both against the truth. No downloads; two CPU cores are enough.
"""

import argparse
import shlex
import sys
from pathlib import Path

from tunit.commands.numbers import number, seed
from tunit.printing import show

HELP = "show in minutes all that tunit does, on synthetic pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit demo`."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/demo"),
        metavar="DIR",
        help="folder for the results [runs/demo]",
    )
    parser.add_argument("--minutes", type=number, default=8.0, metavar="M", help="how long it may take [8]")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="SEED", help="seed of the pictures and the training [0]"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what an earlier demo wrote in --out: the folders creatures and run as a whole (labels from the "
        "studio stay), its pictures, summary.json and report.html; other files and folders stay",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit demo`."""
    from tunit.demo import run_demo
    from tunit.errors import ConfigError
    from tunit.training.interrupt import Interrupted

    if not 0 < args.minutes <= 100_000:
        raise ConfigError(f"--minutes is {args.minutes:g}: take a positive number, such as 8")
    try:
        run_demo(args.out, minutes=args.minutes, seed=args.seed, overwrite=args.overwrite, say=show)
    except Interrupted as stop:
        show(f"tunit: {stop}")
        return stop.exit_code
    # Print the program's path as it was called: after `make demo`, `tunit` alone is not on the shell's path.
    program = sys.argv[0] if Path(sys.argv[0]).name == "tunit" else "tunit"
    show(
        f"Look at it, and translate with it, in the browser: {shlex.join([program, 'studio', str(args.out)])}"
    )
    return 0
