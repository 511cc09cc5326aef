"""Where and how precisely the networks run: the config's device, precision and threads, resolved."""

import ctypes
import os

import torch

from tunit.config import Config
from tunit.distributed import rank, world_size
from tunit.errors import ConfigError

# Names of glibc's settings, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Of convolutions and matrices, by name.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`. Raises ConfigError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}: take auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}: take auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but torch sees {torch.cuda.device_count()} GPUs: take another"
        )
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` resolved: bfloat16 where the hardware multiplies matrices in it, else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def resolve_machine(config: Config) -> Config:
    """A copy whose precision, threads and processes are this machine's, so that a resumed run repeats them."""
    device = choose_device(config.run.device)
    threads = config.run.threads or len(os.sched_getaffinity(0))
    precision = choose_precision(config.run.precision, device)
    processes = config.run.processes or (torch.cuda.device_count() if device.type == "cuda" else 1)
    return config.with_overrides(
        {"device": str(device), "precision": precision, "threads": threads, "processes": processes}
    )


def prepare_machine(config: Config) -> torch.device:
    """The device of a resolved config, with its number of threads, and memory that is kept between steps.

    Where several processes train together, each has its share of the threads, and a GPU of its own.
    """
    torch.set_num_threads(max(1, config.run.threads // world_size()))
    keep_freed_memory()
    device = choose_device(config.run.device)
    # Shapes stay from step to step, so that it pays to try which of cuDNN's ways is the fastest.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    return torch.device("cuda", rank()) if device.type == "cuda" and world_size() > 1 else device


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, which it would return to the system and fetch anew in each step.

    A step on a processor takes about 5 % less for it. Without effect where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing, to learn now whether it can be done. Raises ConfigError."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever is missing, it is the compiler that does not work
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"torch.compile does not work here ({reason}): install a C++ compiler, or leave out --compile"
        ) from None
