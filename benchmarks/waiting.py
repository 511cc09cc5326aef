"""Seconds of a short training by how long a waiting thread keeps its core busy, idle and beside a busy process.

  python benchmarks/waiting.py

Each training is a process of its own, with as many threads as there are cores: G, D and E of the preset `demo` on
synthetic pictures. The ways to wait (values of GOMP_SPINCOUNT) take turns, so that all meet the same machine. The
busy process is one endless loop.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import write
from paired import spread

WAYS = {
    "300,000 spins (OpenMP's default)": "300000",
    "10,000 spins": "10000",
    "1,000 spins (tunit's)": "1000",
    "no spins": "0",
}
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
TUNIT = [sys.executable, "-m", "tunit"]


def seconds_of(pictures: Path, spins: str, steps: int) -> float:
    """The wall time of a training from its start to its end, with the time in which PyTorch is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    environment["GOMP_SPINCOUNT"] = spins
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "train",
            str(pictures),
            "--preset",
            "demo",
            "--domains",
            "6",
            "--out",
            f"{folder}/run",
            "--quiet",
        ]
        words += ["--steps", str(steps), "--guide-only-until", str(steps // 2), "--average-from", "0.5"]
        start = time.perf_counter()
        subprocess.run([*TUNIT, *words], env=environment, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60, help="half of them E alone")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="waiting")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*TUNIT, "creatures", f"{folder}/creatures"], check=True, capture_output=True)
        result: dict[str, Any] = {"steps": args.steps}
        for beside in ("idle", "beside a busy process"):
            busy = None if beside == "idle" else subprocess.Popen([sys.executable, "-c", "while True: pass"])
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            try:
                for _ in range(args.repeats):
                    for way, spins in WAYS.items():
                        times[way].append(seconds_of(Path(folder, "creatures"), spins, args.steps))
                        print(f"{beside}, {way}: {times[way][-1]:.1f} s", flush=True)
            finally:
                if busy:
                    busy.kill()
            result[beside] = {way: spread(seconds) for way, seconds in times.items()}
    print(write(args.name, result))


if __name__ == "__main__":
    main()
