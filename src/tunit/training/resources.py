"""What a config asks of the machine: its device, precision, threads and processes, resolved and set up."""

import torch

from tunit.config import Config
from tunit.data.workers import usable_cores
from tunit.distributed import rank, world_size
from tunit.machine import check_threads, choose_device, choose_precision, keep_freed_memory


def resolve_machine(config: Config) -> Config:
    """A copy whose precision, threads and processes are this machine's, so that a resumed run repeats them."""
    device = choose_device(config.run.device)
    threads = config.run.threads or usable_cores()
    precision = choose_precision(config.run.precision, device)
    processes = config.run.processes or (torch.cuda.device_count() if device.type == "cuda" else 1)
    return config.with_overrides(
        {"device": str(device), "precision": precision, "threads": threads, "processes": processes}
    )


def prepare_machine(config: Config) -> torch.device:
    """The device of a resolved config, with its number of threads, and memory that is kept between steps.

    Where several processes train together, each has its share of the threads, and a GPU of its own. Raises
    ConfigError where the system has not so many threads to give.
    """
    threads = max(1, config.run.threads // world_size())
    if threads > usable_cores():
        check_threads(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = choose_device(config.run.device)
    # Shapes stay from step to step, so that it pays to try which of cuDNN's ways is the fastest.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    return torch.device("cuda", rank()) if device.type == "cuda" and world_size() > 1 else device
