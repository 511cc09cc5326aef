"""How long the command line and the package take to start; each start is a new process.

python benchmarks/startup.py [--quick]
"""

import argparse
import subprocess
import sys
from functools import partial

from machine import write
from paired import seconds_of, spread

PROGRAMS = {
    "python, nothing": ["-c", "pass"],
    "tunit --help": ["-m", "tunit", "--help"],
    "tunit train --help": ["-m", "tunit", "train", "--help"],
    "import tunit": ["-c", "import tunit"],
    "import torch": ["-c", "import torch"],
    "Translator": ["-c", "from tunit import Translator"],
    "train": ["-c", "from tunit import train"],
    "evaluate": ["-c", "from tunit import evaluate"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(3 if args.quick else 11):  # alternating, so that a busy moment affects all of them
        for name, words in PROGRAMS.items():
            run = [sys.executable, *words]
            start = partial(subprocess.run, run, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(seconds_of(start))
    result: dict[str, object] = {f"{name}, seconds": spread(values) for name, values in seconds.items()}
    for name in ("Translator", "train", "evaluate"):
        beyond = [a - b for a, b in zip(seconds[name], seconds["import torch"], strict=True)]
        result[f"{name} beyond torch, seconds"] = spread(beyond)
    print(write("startup-quick" if args.quick else "startup", result).read_text())


if __name__ == "__main__":
    main()
