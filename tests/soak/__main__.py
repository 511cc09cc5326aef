"""Tests the promises of docs/reliability.md for long: `make soak`, or `python -m soak` with PYTHONPATH=tests:src.

Prints a line for each promise, and writes the figures so far as JSON. --scale 0.1 takes a tenth of the kills, files
and steps. An input that fails is kept next to the JSON, in a folder with the same name that ends with .inputs.
"""

import argparse
import random
import shlex
import sys
import tempfile
import time
from pathlib import Path

import torch

from soak.hostile import TARGETS
from soak.jobs import JOBS
from soak.ledger import Ledger
from soak.promises import PARTS
from soak.setting import Setting


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--out", type=Path, help="file for the figures (JSON)")
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts [1]")
    parser.add_argument("--seed", type=int, default=None, help="of random moments and files [the time]")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to try [all]")
    parser.add_argument(
        "--jobs",
        nargs="+",
        choices=JOBS,
        default=list(JOBS),
        help="jobs to kill, stop and refuse space to [all]",
    )
    parser.add_argument(
        "--inputs", nargs="+", choices=TARGETS, default=list(TARGETS), help="kinds of bad input [all]"
    )
    args = parser.parse_args()
    seed = int(time.time()) if args.seed is None else args.seed
    torch.set_num_threads(1)
    command = f"python -m soak --scale {args.scale:g} --seed {seed} --only {' '.join(args.only)}"
    if args.jobs != list(JOBS):
        command += " --jobs " + shlex.join(args.jobs)
    if args.inputs != list(TARGETS):
        command += " --inputs " + shlex.join(args.inputs)
    # Next to the figures, because the scratch folder is deleted at the end.
    kept = (args.out or Path("soak.json")).absolute().with_suffix(".inputs")
    ledger = Ledger(args.out, command)
    with tempfile.TemporaryDirectory(prefix="tunit-soak-") as scratch:
        setting = Setting(
            Path(scratch), args.scale, random.Random(seed), kept=kept, jobs=args.jobs, inputs=args.inputs
        )
        try:
            for name in args.only:
                PARTS[name](setting, ledger)
        finally:
            setting.close()
    failed = sum(not row["holds"] for row in ledger.rows)
    print(f"{len(ledger.rows) - failed} of {len(ledger.rows)} promises held (seed {seed})")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
