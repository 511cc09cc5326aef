"""The gain from each piece of fast code: a training step with and without it, alternately in one process.

  python benchmarks/native.py                            # all sizes, one thread: half an hour
  python benchmarks/native.py --sizes demo-32 --repeats 3

Times are CPU times, so that other work on the machine matters little. The gain is how much longer a step takes
without the piece. Two figures are given: the median over pairs of steps, one with it and one without it right after;
and the smallest time without it over the smallest time with it, which a busy machine disturbs least.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from machine import write
from paired import spread
from tunit import native
from tunit.config import read_config
from tunit.data.batching.augment import to_float, two_views
from tunit.data.batching.batches import make_batch
from tunit.machine import keep_freed_memory
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.networks import convolution, filter_response
from tunit.networks.layers import ReflectConv2d
from tunit.networks.upsampling import KERNEL, UpsamplingConv2d
from tunit.training.from_pictures import suited_to_pictures
from tunit.training.initial_state import new_state

ALONE, JOINT, WITHOUT_R1 = Phase(False, True, False), Phase(True, True, True), Phase(True, True, False)
# Preset or base, image size, batch size, phase; r1_every of the presets for CPUs is 16, of the paper 1.
SIZES: dict[str, tuple[str, int, int, Phase]] = {
    "demo-32, joint": ("demo", 32, 16, WITHOUT_R1),
    "demo-32, joint with R1": ("demo", 32, 16, JOINT),
    "demo-32, E alone": ("demo", 32, 128, ALONE),
    "small-32, joint": ("small", 32, 16, WITHOUT_R1),
    "small-32, E alone": ("small", 32, 128, ALONE),
    "tables-64, joint": ("tables-64", 64, 16, WITHOUT_R1),
    "tables-64, joint with R1": ("tables-64", 64, 16, JOINT),
    "tables-64, E alone": ("tables-64", 64, 128, ALONE),
    "paper-32, joint with R1": ("paper", 32, 32, JOINT),
    "paper-64, joint with R1": ("paper", 64, 8, JOINT),
}


def upsample_first(self: UpsamplingConv2d, x: Tensor) -> Tensor:
    """The up-sampling convolution without our shortcut: up-sample first, then convolve."""
    large = torch.nn.functional.interpolate(x, scale_factor=2)
    return ReflectConv2d.forward(self, large)


PIECES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "anything in C": lambda: patch.object(native, "_library", lambda: None),
    "Winograd": lambda: patch.object(convolution, "is_worth_it", lambda x, w, edge: False),
    "filter response norm": lambda: patch.object(filter_response, "supports", lambda x: False),
    "up-sampling at the small size": lambda: patch.object(UpsamplingConv2d, "forward", upsample_first),
}
assert KERNEL == 5


def measure(
    base: str, size: int, number: int, phase: Phase, repeats: int, pieces: list[str]
) -> dict[str, Any]:
    """Seconds of the step with everything, and of the step without each of `pieces`; `repeats` rounds."""
    config = read_config(base).with_overrides(
        {"image_size": size, "batch_size": number, "device": "cpu", "precision": "float32", "threads": 1}
    )
    config = suited_to_pictures(config, None)
    state = new_state(config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, size, size, 3), dtype=torch.uint8, generator=generator)
    x, x_plus = two_views(to_float(images), config.augment, torch.Generator().manual_seed(1))
    batch = make_batch(x, x_plus, torch.full((number,), -1))
    permutation = torch.randperm(number, generator=generator)

    def seconds(*without: str) -> float:
        with ExitStack() as stack:
            for name in without:
                stack.enter_context(PIECES[name]())
            began = time.process_time()
            method_of(config).step(state, batch, permutation, phase, config)
            return time.process_time() - began

    seconds(), seconds("anything in C")
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in pieces}
    for _ in range(repeats):
        for name in pieces:
            pairs[name].append((seconds(), seconds(name)))
    whole = [pair[0] for found in pairs.values() for pair in found]
    return {
        "whole step, seconds": spread(whole),
        "without": {
            name: {
                "seconds": spread([without for _, without in found]),
                "longer by": round(statistics.median(without / all_ for all_, without in found) - 1, 4),
                "longer by, least of each": round(
                    min(without for _, without in found) / min(all_ for all_, _ in found) - 1, 4
                ),
                "pairs": [[round(value, 4) for value in pair] for pair in found],
            }
            for name, found in pairs.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=[""], help="those whose names begin so")
    parser.add_argument(
        "--pieces",
        nargs="+",
        choices=PIECES,
        default=list(PIECES),
        metavar="PIECE",
        help="to leave out in turn",
    )
    parser.add_argument("--repeats", type=int, default=15, help="turns; a third of it at the paper's widths")
    parser.add_argument("--name", default="native", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training
    result: dict[str, Any] = {}
    for name, (base, size, number, phase) in SIZES.items():
        if name.startswith(tuple(args.sizes)):
            repeats = max(1, args.repeats // 3) if base == "paper" else args.repeats
            result[name] = measure(base, size, number, phase, repeats, args.pieces)
            print(name, result[name]["whole step, seconds"], flush=True)
            for piece, found in result[name]["without"].items():
                longer, least = found["longer by"], found["longer by, least of each"]
                print(f"  without {piece}: {longer:+.1%}, least of each {least:+.1%}", flush=True)
            write(args.name, result)


if __name__ == "__main__":
    main()
