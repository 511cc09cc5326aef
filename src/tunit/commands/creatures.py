"""Write synthetic pictures: cartoon creatures of six species whose true domains, styles and contents are known.

  tunit creatures OUT --number 2000 --size 128 --seed 1

OUT/pictures holds ordinary PNG files; OUT/factors.csv has a row for each with its species (label), its content
(place, size, tilt, gaze, expression) and its style (shade, pattern). The same seed gives the same pictures.
"""

import argparse
from pathlib import Path

from tunit.commands.numbers import seed, whole
from tunit.printing import show

MOST_CREATURES = 1_000_000

HELP = "write a set of synthetic pictures (cartoon creatures) with known domains, to try things out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit creatures`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument(
        "--number", type=whole(1, MOST_CREATURES), default=1000, metavar="N", help="how many pictures [1000]"
    )
    parser.add_argument(
        "--size", type=whole(32, 1024), default=64, metavar="S", help="side in pixels, 32 to 1024 [64]"
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="SEED", help="each seed gives another set [0]"
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit creatures`."""
    from tunit.data.creatures.picture_set import write_creatures

    table = write_creatures(args.out, args.number, args.size, args.seed)
    show(f"{args.number} creatures at {args.size} x {args.size}: {args.out / 'pictures'}, factors in {table}")
    return 0
