"""Several processes: bytes sent per step (counted), time on N GPUs (calculated), seconds on this CPU (measured).

  python benchmarks/scaling.py             # counts at 128 px, the paper's widths; seconds at 32 px: ten minutes
  python benchmarks/scaling.py --quick     # narrow networks at 32 px, to see whether it runs

Counting needs no second process: the collective operations are replaced by functions that count their bytes.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist

from both_steps import ALONE, JOINT, NARROW, Bench
from growth import over_processes
from machine import write
from tunit.config import Config
from tunit.training.resources import resolve_machine

# For machines with eight H100, in bytes per second as their makers give them: from GPU to GPU inside a machine, and
# each GPU's share of the network between machines (400 Gb/s per GPU). And the smallest time of a collective
# operation, per machine that it passes. Not measured here.
WITHIN, BETWEEN = 450e9, 50e9
LATENCY_WITHIN, LATENCY_BETWEEN = 20e-6, 15e-6
GPUS_OF_MACHINE = 8
# Seconds of a joint step of 32 pictures of 128 px on one H100, predicted in docs/performance.md.
STEP_OF_32 = 0.103


@contextmanager
def counting(found: list[tuple[str, int]]) -> Iterator[None]:
    """Inside, this process acts as rank 0 of two; the bytes that it would send are counted and not sent."""

    def all_gather(outputs: list[torch.Tensor], x: torch.Tensor) -> None:
        found.append(("all-gather", x.numel() * x.element_size()))
        for output in outputs:
            output.copy_(x)

    def all_reduce(x: torch.Tensor, **how: Any) -> None:
        found.append(("all-reduce", x.numel() * x.element_size()))

    with (
        patch("tunit.distributed.collectives.world_size", lambda: 2),
        patch("tunit.networks.batch_norm.world_size", lambda: 2),
        patch("tunit.methods.parts.world_size", lambda: 2),
        patch("tunit.distributed.collectives.rank", lambda: 0),
        patch.object(dist, "all_gather", all_gather),
        patch.object(dist, "all_reduce", all_reduce),
    ):
        yield


def counted(settings: dict[str, Any]) -> dict[str, Any]:
    """Bytes and operations that each of two processes sends in a step of each phase, with two pictures each."""
    bench = Bench(resolve_machine(Config().with_overrides(settings | {"batch_size": 4})))
    result: dict[str, Any] = {}
    for name, phase in (("E alone", ALONE), ("joint", JOINT)):
        found: list[tuple[str, int]] = []
        with counting(found):
            bench.ours(phase)
        gradients = [n for kind, n in found if kind == "all-reduce" and n > 1 << 16]
        others = [n for _, n in found if n <= 1 << 16]
        result[name] = {
            "gradients, bytes": gradients,
            "gradients together, MB": sum(gradients) / 1e6,
            "other operations": len(others),
            "other bytes": sum(others),
        }
    return result


def worked_out(joint: dict[str, Any], gpus: int) -> dict[str, float]:
    """Seconds of communication in a joint step on this many GPUs, and their share of a step.

    A ring all-reduce sends 2 (n - 1) / n of the bytes from each GPU. Every GPU has `32 / 8` pictures, so the batch
    grows with their number. Communication does not overlap with computing: a step waits for each sum.
    """
    machines = -(-gpus // GPUS_OF_MACHINE)
    speed = WITHIN if machines == 1 else BETWEEN
    latency = LATENCY_WITHIN + LATENCY_BETWEEN * 2 * (machines - 1) ** 0.5 * (machines > 1)
    ring = 2 * (gpus - 1) / gpus * joint["gradients together, MB"] * 1e6 / speed
    pictures = 4
    rows = pictures * (128 + 10) * 4 * 7 * (gpus - 1) / speed  # logits and codes of E: seven passes
    waits = latency * (joint["other operations"] + len(joint["gradients, bytes"]))
    computing = STEP_OF_32 * pictures / 32
    total = ring + rows + waits
    return {
        "gradients, ms": ring * 1e3,
        "codes and logits, ms": rows * 1e3,
        "waiting, ms": waits * 1e3,
        "computing 4 pictures, ms": computing * 1e3,
        "share of a step that is communication": total / (total + computing),
        "pictures per second": gpus * pictures / (total + computing),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    base: dict[str, Any] = {"device": "cpu", "precision": "float32"} | (NARROW if args.quick else {})
    counts = counted(base | {"image_size": 32 if args.quick else 128})
    # Narrow networks, because with the paper's widths a step takes seconds on this CPU.
    result: dict[str, Any] = {
        "sent by each process in a step": counts,
        "worked out for H100s": {
            str(n): worked_out(counts["joint"], n) for n in (8, 16, 32, 64, 128, 256, 512, 1024)
        },
    }
    name = f"scaling{'-quick' if args.quick else ''}"
    write(name, result)
    result["seconds of a joint step here, 32 px, batch 32, narrow networks"] = over_processes(
        base | NARROW, torch.device("cpu"), args.repeats
    )
    print(write(name, result).read_text())


if __name__ == "__main__":
    main()
