"""Seconds per batch of `Batches.draw`: pictures on the device, read from the memory map, and read ahead.

    python benchmarks/feeding.py [--quick] [--size 128] [--batch 32]

Between two batches the loop waits for --step seconds, in place of a training step; this time is not counted. The file
is in the system's file cache, as after the first epoch if there is enough memory.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from machine import write
from paired import seconds_of, spread
from tunit.config import AugmentConfig
from tunit.data.batching.augment import two_views
from tunit.data.batching.batches import Batches
from tunit.data.batching.randomness import torch_generator


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--pictures", type=int, default=4_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--step", type=float, default=0.02, help="seconds between batches")
    args = parser.parse_args()
    repeats = 8 if args.quick else 60
    with tempfile.TemporaryDirectory() as scratch:
        path, shape = Path(scratch) / "pictures.npy", (args.pictures, args.size, args.size, 3)
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        mapped = np.load(path, mmap_mode="r")
        labels = np.full(args.pictures, -1)

        def source(resident_bytes: int) -> Batches:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            return Batches(
                mapped, labels, AugmentConfig(), seed=0, device=device, resident_bytes=resident_bytes
            )

        sources = {"resident": source(2**62), "streamed": source(0), "streamed, not ahead": source(0)}
        cursors: dict[str, dict[str, int]] = {name: {} for name in sources}
        seconds: dict[str, list[float]] = {name: [] for name in [*sources, "augmentation alone"]}
        still = torch.rand(args.batch, 3, args.size, args.size) * 2 - 1
        for step in range(repeats + 1):  # alternating; the first round is to warm up
            for name, batches in sources.items():
                if name == "streamed, not ahead":
                    batches._guesses.clear()
                seconds[name].append(seconds_of(partial(batches.draw, step, args.batch, cursors[name])))
                time.sleep(args.step)
            drawn = torch_generator(0, "views", step)
            augment = partial(two_views, still, AugmentConfig(), drawn)
            seconds["augmentation alone"].append(seconds_of(augment))
    result = {
        "pictures": args.pictures,
        "size": args.size,
        "batch": args.batch,
        **{f"{name}, seconds a batch": spread(values[1:]) for name, values in seconds.items()},
    }
    print(write("feeding-quick" if args.quick else "feeding", result).read_text())


if __name__ == "__main__":
    main()
