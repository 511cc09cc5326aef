"""Show what a run found, as one HTML page that needs no network.

  tunit report runs/mine
  tunit report runs/mine --out mine.html

The page shows every domain with typical pictures and its average style, translations by references and from domain to
domain, an interactive map of all styles, curves, best and worst cases, warnings in plain words, and the settings. It
also shows the figures that `tunit evaluate` left in the run.
"""

import argparse
from pathlib import Path

from tunit.commands.numbers import seed
from tunit.commands.picture_arguments import add_device
from tunit.printing import show

HELP = "write one HTML page that shows what a run found"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit report`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page [RUN/report.html]")
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FILE",
        help="a result of `tunit evaluate --out FILE` [RUN/evaluation/evaluation.json]",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed for the choice of pictures [0]")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit report`."""
    from tunit.machine import choose_device
    from tunit.reporting.write import write_report

    device = choose_device(args.device)
    path = write_report(args.model, args.out, figures=args.figures, seed=args.seed, device=device)
    show(f"{path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")
    return 0
