"""step.py --growth: how the time of a joint step grows with pictures, domains and processes."""

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

from both_steps import JOINT, Bench
from paired import spread
from tunit.config import Config
from tunit.data.decoding.workers import usable_cores
from tunit.distributed.process_group import process_group
from tunit.training.resources import resolve_machine


def growth(base: dict[str, Any], device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of a joint step, median, with one thing changed at a time from 32 px, 8 pictures, 10 domains."""
    start = {"image_size": 32, "batch_size": 8, "domains": 10}
    sweeps = {"image_size": (32, 64, 128), "batch_size": (4, 8, 16, 32), "domains": (10, 100, 1000)}
    found: dict[str, Any] = {}
    for name, values in sweeps.items():
        found[name] = {}
        for value in values:
            config = resolve_machine(Config().with_overrides(base | start | {name: value}))
            bench = Bench(config)
            bench.ours(JOINT)
            seconds = [bench.seconds(bench.ours, JOINT) for _ in range(repeats)]
            found[name][str(value)] = spread(seconds)
    return found


def seconds_of_one(
    rank: int, number: int, port: int, folder: str, base: dict[str, Any], repeats: int
) -> None:
    """Runs as one of `number` processes that share the steps; the first writes the times."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = *map(str, (rank, rank, number, number)), "127.0.0.1", str(port)
    os.environ.update(zip(names, values, strict=True))
    with process_group(torch.device(base["device"])):
        bench = Bench(resolve_machine(Config().with_overrides(base)))
        bench.ours(JOINT)
        seconds = [bench.seconds(bench.ours, JOINT) for _ in range(repeats)]
        if rank == 0:
            (Path(folder) / "seconds.json").write_text(json.dumps(seconds))


def over_processes(base: dict[str, Any], device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of a joint step of 32 px, 32 pictures, by 1, 2, ... processes: GPUs, or cores with a thread each.

    On a CPU, one process with all threads is measured too.
    """
    most = torch.cuda.device_count() if device.type == "cuda" else usable_cores()
    found: dict[str, Any] = {}
    numbers = [2**i for i in range(most.bit_length()) if 2**i <= most]
    trials = [(number, number) for number in numbers]
    if device.type == "cpu":
        trials.append((1, most))
    for number, threads in trials:
        settings = base | {"image_size": 32, "batch_size": 32, "threads": threads}
        with tempfile.TemporaryDirectory() as folder:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            spawn(seconds_of_one, (number, port, folder, settings, repeats), number)
            name = str(number) if number == threads else f"{number}, {threads} threads"
            found[name] = spread(json.loads((Path(folder) / "seconds.json").read_text()))
    return found
