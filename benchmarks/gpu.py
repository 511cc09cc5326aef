"""Everything to measure on a GPU, in calls of a few minutes, from a copy of the source tree (benchmarks/gpu.sh starts
it).

  benchmarks/gpu.sh correct                 # 3 minutes: are results the same as on the CPU?
  benchmarks/gpu.sh speed                   # 6 minutes: our steps and the literal one, a profile, translating
  benchmarks/gpu.sh train --seconds 500     # whole trainings; each further call continues them in --runs
  benchmarks/gpu.sh all                     # all three, in TUNIT_GPU_SECONDS or 570 seconds
  benchmarks/gpu.sh all --device cpu --tiny # to see whether it runs

JSON and pictures go to --out, else $OUT, else benchmarks/results/gpu. Each result is written at once, and a guard
thread ends the process when the time is over.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

import gpu_correct
import gpu_speed
import gpu_train
from gpu_report import Clock, Setting, guarded, leave_out_large
from tunit.machine import choose_device

SECONDS = {"correct": 180.0, "speed": 360.0, "train": 500.0, "all": 570.0}
SHARES = {"correct": 0.3, "speed": 0.4, "train": 0.3}  # of all
PARTS = {"correct": gpu_correct.run, "speed": gpu_speed.run, "train": gpu_train.run}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument(
        "--seconds", type=float, help="for the whole call [TUNIT_GPU_SECONDS, else the part's usual time]"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("OUT") or Path(__file__).parent / "results" / "gpu")
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("/tmp/tunit-gpu-runs"),
        help="folder of the trainings; the next call continues them",
    )
    parser.add_argument(
        "--data", type=Path, help="pictures in a folder per kind, to train on beside creatures"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="narrow networks and few steps, to see whether it runs"
    )
    args = parser.parse_args(words)
    try:
        device = choose_device(args.device)
    except Exception as error:
        print(f"no GPU to work on: {error}", file=sys.stderr)
        return 2
    seconds = args.seconds or float(os.environ.get("TUNIT_GPU_SECONDS") or SECONDS[args.part])
    if args.part == "all":
        return each_in_a_process(args, seconds)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    clock = Clock(seconds)
    guard = guarded(clock, lambda: leave_out_large(args.out, args.part))
    try:
        print(f"== {args.part}: {seconds:.0f} s on {device}", flush=True)
        PARTS[args.part](Setting(device, args.out, clock, args.tiny, args.runs, args.data))
    finally:
        guard.cancel()
        leave_out_large(args.out, args.part)
    return 0


def each_in_a_process(args: argparse.Namespace, seconds: float) -> int:
    """All parts, each in a process of its own: if one is ended because its time is over, the next one still runs.

    Returns the largest exit code.
    """
    whole, code = Clock(seconds), 0
    for name, share in SHARES.items():
        left = max(1.0, whole.left() if name == "train" else min(share * seconds, whole.left()))
        words = ["--seconds", str(left), "--device", args.device]
        words += ["--out", str(args.out), "--runs", str(args.runs)]
        words += ["--data", str(args.data)] if args.data else []
        words += ["--tiny"] if args.tiny else []
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, __file__, name, *words], env=os.environ | paths, check=False)
        code = max(code, done.returncode)
    return code


if __name__ == "__main__":
    sys.exit(main())
