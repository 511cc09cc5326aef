"""Resolve and set up the device, precision, threads, processes and compiler that a config asks for."""

import platform
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from tunit import native
from tunit._version import __version__
from tunit.config import Config
from tunit.data.decoding.workers import usable_cores
from tunit.distributed.collectives import keep_out_of_compiled_code
from tunit.distributed.gpus import own_gpu
from tunit.distributed.launcher import ranks_of_machine
from tunit.errors import ConfigError
from tunit.machine import (
    check_compiler,
    check_threads,
    choose_device,
    choose_precision,
    keep_freed_memory,
)


def resolve_machine(config: Config) -> Config:
    """The config with device, precision, threads and processes chosen. A resumed run uses the same ones."""
    device = choose_device(config.run.device)
    threads = config.run.threads or usable_cores()
    precision = choose_precision(config.run.precision, device)
    processes = config.run.processes or (torch.cuda.device_count() if device.type == "cuda" else 1)
    return config.with_overrides(
        {"device": str(device), "precision": precision, "threads": threads, "processes": processes}
    )


def prepare_machine(config: Config) -> torch.device:
    """Set the number of threads, the allocator and cuDNN's flags for the whole process; returns its device.

    If several processes of a machine train together, each gets an equal share of the threads, and its own GPU. Raises
    ConfigError if the system cannot start this many threads.
    """
    threads = max(1, config.run.threads // ranks_of_machine())
    if threads > usable_cores():
        check_threads(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = choose_device(config.run.device)
    # Shapes stay the same from step to step, so cuDNN may time its algorithms once and keep the fastest. Its choice
    # may differ from run to run, so this is off if PyTorch was asked for deterministic algorithms.
    exact = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = device.type == "cuda" and not exact
    # In a bfloat16 run (7 bits of mantissa) the only convolutions in float32 are those of the gradient penalty. They
    # use TF32 (10 bits), which is several times as fast. A float32 run never uses TF32.
    low = config.run.precision == "bfloat16"
    torch.backends.cudnn.allow_tf32 = low
    return torch.device("cuda", own_gpu()) if device.type == "cuda" and ranks_of_machine() > 1 else device


def compile_parts(
    parts: Iterable[nn.Module], device: torch.device, backend: str = "inductor", *, graphs: bool = False
) -> None:
    """Compile each of `parts`, which the method names, at its first forward pass.

    The names of weights in checkpoints stay the same. Raises ConfigError if no compiler works here, or if the device
    has no CUDA graphs. backend: as for torch.compile. graphs: replay the kernels as CUDA graphs; then `begin_step`
    must be called before each step.
    """
    if graphs and device.type != "cuda":
        raise ConfigError(f"cuda_graphs is true, but the device is {device}: leave out --cuda-graphs")
    if backend == "inductor":
        check_compiler(device)
    keep_out_of_compiled_code()
    for part in parts:
        part.forward = torch.compile(
            part.forward, backend=backend, mode="reduce-overhead" if graphs else None
        )


def begin_step(config: Config) -> None:
    """Tell CUDA graphs that nothing computed in earlier steps is needed, so that its memory may be used again."""
    if config.run.compile and config.run.cuda_graphs:
        torch.compiler.cudagraph_mark_step_begin()


def machine_and_versions(device: torch.device) -> dict[str, object]:
    """What a training runs with, for run.json."""
    return {
        "tunit": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "native": native.describe() if device.type == "cpu" else "not used",
    }
