"""Our training step and the literal one, timed alternately in one run: phases, parts, FLOPs, matrix rate, memory.

  python benchmarks/step.py                              # 32 px x 32 and 64 px x 8, the paper's widths: 20 minutes
  python benchmarks/step.py --shapes 128x32 --device cuda
  python benchmarks/step.py --memory                     # instead: peak memory
  python benchmarks/step.py --growth                     # instead: seconds over image size, batch, domains, processes
  python benchmarks/step.py --quick                      # narrow networks, to see whether it runs

The literal step (literal.py) is eager float32 with every forward pass written out. Ours runs in the precision of the
device (`--precision`). Lazy R1 is R1 every 16th step: one step with it and fifteen without.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from both_steps import ALONE, JOINT, LAZY, NARROW, WITHOUT_R1, Bench, flops_of
from growth import growth, over_processes
from machine import write
from paired import spread
from tunit import native
from tunit.config import Config
from tunit.machine import PRECISIONS
from tunit.methods import tunit as step_module
from tunit.networks.ema import update_ema
from tunit.training.logs.speed import matrix_rate
from tunit.training.resources import resolve_machine


@contextmanager
def timed_parts(bench: Bench) -> Iterator[dict[str, float]]:
    """Seconds that a step spends in its parts; the rest is G's forward passes and losses."""
    found: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            bench.wait()
            before, began = dict(found), time.perf_counter()
            result = function(*args, **kwargs)
            bench.wait()
            inner = sum(found.values()) - sum(before.values())  # what is counted under its own name
            found[name] += time.perf_counter() - began - inner
            return result

        return run

    assert bench.state is not None
    blocks = {"E": "E alone", "D": "D"}

    @contextmanager
    def timed_block(label: str) -> Iterator[None]:
        """Replaces a profiler's label in the step."""
        bench.wait()
        before, began = sum(found.values()), time.perf_counter()
        yield
        bench.wait()
        if label in blocks:
            inner = sum(found.values()) - before  # what is counted under its own name
            found[blocks[label]] += time.perf_counter() - began - inner

    with (
        patch.object(bench, "draw", timed("data and augmentation", bench.draw)),
        patch.object(step_module, "record_function", timed_block),
        patch.object(step_module, "update_ema", timed("averages", update_ema)),
    ):
        optimisers = bench.state.optimisers.named()
        plain = {name: optimiser.step for name, optimiser in optimisers.items()}
        for optimiser in optimisers.values():
            optimiser.step = timed("optimisers", optimiser.step)  # type: ignore[method-assign]
        yield found
        for name, optimiser in optimisers.items():
            optimiser.step = plain[name]  # type: ignore[method-assign]


def parts_of(bench: Bench) -> dict[str, float]:
    """Share of each part in a joint step with R1."""
    with timed_parts(bench) as found:
        began = time.perf_counter()
        bench.ours(JOINT)
        whole = time.perf_counter() - began
    shares = {name: seconds / whole for name, seconds in found.items()}
    shares["G, and E and D for it"] = 1 - sum(shares.values())
    return {name: round(share, 3) for name, share in shares.items()}


def compare(config: Config, device: torch.device, repeats: int) -> dict[str, Any]:
    """Everything except memory, for one image size and batch."""
    number = config.optimisers.batch_size
    plain = Bench(config.with_overrides({"compile": 0}))  # operations of compiled networks cannot be counted
    flops = {
        "literal, joint": flops_of(plain.theirs, JOINT, number),
        "joint": flops_of(plain.ours, JOINT, number),
        "joint without R1": flops_of(plain.ours, WITHOUT_R1, number),
        "E alone": flops_of(plain.ours, ALONE, number),
    }
    bench = Bench(config)
    for phase in (JOINT, WITHOUT_R1, ALONE):
        bench.theirs(phase)
        bench.ours(phase)
    rows: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        literal = bench.seconds(bench.theirs, JOINT)
        joint, without = bench.seconds(bench.ours, JOINT), bench.seconds(bench.ours, WITHOUT_R1)
        literal_alone, alone = bench.seconds(bench.theirs, ALONE), bench.seconds(bench.ours, ALONE)
        with patch.object(native, "_library", lambda: None):
            by_pytorch = bench.seconds(bench.ours, JOINT)
        lazy = (joint + (LAZY - 1) * without) / LAZY
        for name, value in (
            ("literal, joint, seconds", literal),
            ("joint, R1 every step, seconds", joint),
            ("joint, lazy R1, seconds", lazy),
            ("joint, without what is in C, seconds", by_pytorch),
            ("literal, E alone, seconds", literal_alone),
            ("E alone, seconds", alone),
            ("joint, R1 every step, times as fast", literal / joint),
            ("joint, lazy R1, times as fast", literal / lazy),
            ("E alone, times as fast", literal_alone / alone),
            ("joint, times as fast as without what is in C", by_pytorch / joint),
        ):
            rows[name].append(value)
    joint = statistics.median(rows["joint, R1 every step, seconds"])
    rate = matrix_rate(device, PRECISIONS[config.run.precision], 2048)
    return {
        **{name: spread(values) for name, values in rows.items()},
        "pictures per second, joint": round(number / joint, 2),
        "GFLOP per picture and step": flops,
        "matrix rate, GFLOP per second": round(rate / 1e9, 1),
        "share of the matrix rate": {
            "joint": round(flops["joint"] * number * 1e9 / joint / rate, 3),
            "literal": round(
                flops["literal, joint"]
                * number
                * 1e9
                / statistics.median(rows["literal, joint, seconds"])
                / rate,
                3,
            ),
        },
        "share of each part": parts_of(bench),
    }


def peak_memory(overrides: dict[str, Any], device: str, which: str) -> int:
    """MiB that two joint steps need in addition to the process before them; measured in a new process."""
    bench = Bench(resolve_machine(Config().with_overrides(overrides)))
    before = peak_resident()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        (bench.theirs if which == "literal" else bench.ours)(JOINT)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return (peak_resident() - before) >> 10


def peak_resident() -> int:
    """Peak KiB of this process. (The value from `resource` includes the parent's peak.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def memory_of(overrides: dict[str, Any], device: str) -> dict[str, int]:
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {
            name: pool.apply(peak_memory, (overrides | more, device, which))
            for name, which, more in (
                ("literal", "literal", {}),
                ("tunit", "tunit", {}),
                ("tunit, micro_batch 2", "tunit", {"micro_batch": 2}),
            )
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=["32x32", "64x8"], metavar="SIZExBATCH")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="our networks by torch.compile")
    parser.add_argument(
        "--memory", action="store_true", help="instead: peak memory, in processes of their own"
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    base: dict[str, Any] = {
        "precision": args.precision,
        "device": args.device,
        "compile": int(args.compile),
    }
    if args.quick:
        base |= NARROW
    device = torch.device(args.device)
    kind = "-growth" if args.growth else "-memory" if args.memory else "-compiled" if args.compile else ""
    name = f"step{kind}-{device.type}{'-quick' if args.quick else ''}"
    if args.growth:
        result = growth(base, device, args.repeats)
        result["processes"] = over_processes(base, device, args.repeats)
    else:
        result = {}
        for shape in args.shapes:
            size, number = (int(word) for word in shape.split("x"))
            overrides = base | {"image_size": size, "batch_size": number}
            config = resolve_machine(Config().with_overrides(overrides))
            if args.memory:
                result[shape] = {"peak beyond the start, MiB": memory_of(overrides, args.device)}
            else:
                result[shape] = {"precision": config.run.precision, **compare(config, device, args.repeats)}
    print(write(name, result).read_text())


if __name__ == "__main__":
    main()
