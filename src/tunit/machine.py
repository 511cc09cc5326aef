"""Devices, precision and memory of this machine. (For its cores, see data/decoding/workers.py.)"""

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunit.errors import ConfigError
from tunit.failures import GPU_MEMORY
from tunit.printing import numbered

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# The dtypes of convolutions and matrix products, by name.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

UNKNOWN = 2**32  # bytes of free memory that are assumed if the system does not report it
# Share of the free memory that pictures may use; networks and activations need the rest.
PICTURES_SHARE = 0.25


def choose_device(name: str | torch.device) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`, or another accelerator that PyTorch knows.
    A torch.device is checked in the same way.

    Raises ConfigError if it does not exist. Devices other than cpu and cuda are checked by a small step when training
    starts.
    """
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}: take auto, cpu, cuda, cuda:N, mps or xpu") from None
    if device.type not in ("cpu", "cuda"):
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None or accelerator.type != device.type:
            raise ConfigError(f"device is {name!r}, which torch does not find here: take auto or cpu")
    # As a number of the text, because torch keeps only its lowest 8 bits: its cuda:257 is cuda:1.
    number = int(name.partition(":")[2] or 0)
    if device.type != "cpu":
        there = torch.cuda.device_count() if device.type == "cuda" else torch.accelerator.device_count()
        if number >= there:
            raise ConfigError(_too_few(name, device, there))
    return device


def _too_few(name: str, device: torch.device, number: int) -> str:
    """The message for a device whose index is not below the number of such devices."""
    remedy = f"take {device.type}:0" if number == 1 else f"take {device.type}:0 to {device.type}:{number - 1}"
    return (
        f"device is {name!r}, but torch sees {numbered(number, f'{device.type} device')}: "
        f"{remedy + ', or cpu' if number else 'take cpu'}"
    )


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve `auto`: bfloat16 if the hardware multiplies matrices in it, otherwise float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "float32"


def check_threads(number: int) -> None:
    """Raises ConfigError if the system does not let this process start so many threads.

    They are started and ended again. Without this check, a library that gets too few threads would abort the process.
    """
    started: list[threading.Thread] = []
    done = threading.Event()
    try:
        for _ in range(number):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        raise ConfigError(
            f"threads is {number}, but the system lets this process have {len(started)} more at most: lower --threads"
        ) from None
    finally:
        done.set()
        for thread in started:
            thread.join()


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for reuse instead of returning it to the system in every step.

    A step on a CPU takes about 5 % less time. Does nothing with another C library.
    """
    if platform.system() != "Linux":  # other systems have no glibc
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def available_bytes(system: Path = Path("/")) -> int:
    """The bytes of memory that this process may still take; UNKNOWN if the system does not report it.

    This is the free memory of the machine or, in a container or job with a lower limit, what its cgroups leave.
    system: the root of the file system.
    """
    left = cgroup_bytes(system)
    try:
        lines = (system / "proc/meminfo").read_text().splitlines()
        left.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    return max(0, min(left, default=UNKNOWN))


def cgroup_bytes(system: Path = Path("/")) -> list[int]:
    """The bytes that are left in each cgroup of this process that has a limit (cgroups version 2, version 1, or
    both).

    Files that the system caches in memory count as free, because it drops them if memory is needed.
    """
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    left = []
    for line in lines:
        kinds, _, place = line.partition(":")[2].partition(":")
        if not kinds:
            top, limit, used, kept = "", "memory.max", "memory.current", ("inactive_file", "active_file")
        elif "memory" in kinds.split(","):
            top, limit, used = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            kept = "total_inactive_file", "total_active_file"
        else:
            continue
        root = system / "sys/fs/cgroup" / top
        inner = root / place.strip("/")
        # In a container this may be a path of the host, which does not exist here; then only the root is read.
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                left += _left_of(folder / limit, folder / used, folder / "memory.stat", kept)
    return left


def _left_of(limit: Path, used: Path, stat: Path, kept: tuple[str, str]) -> list[int]:
    """The bytes that are left in one cgroup; an empty list if it has no limit, or cannot be read."""
    try:
        most, taken = int(limit.read_text()), int(used.read_text())
        counts = dict(line.split() for line in stat.read_text().splitlines())
        return [most - taken + sum(int(counts.get(name, 0)) for name in kept)]
    except (OSError, ValueError):  # "max"
        return []


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy x, a tensor of the CPU, to `device`, without waiting until a GPU has finished its work.

    A copy from ordinary (not pinned) memory would make the CPU wait for the GPU, and then the GPU for the CPU.
    """
    if device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type != "mps")


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values (n,) as a tensor on `device`, which is copied there only once. Do not change it."""
    with torch.inference_mode(False):  # autograd could not save a tensor that was made in inference mode
        return to_device(torch.tensor(values, dtype=dtype), device)


class _Tf32Switch:
    """Turns TF32 off while at least one block needs it off; several threads may be in such blocks at a time."""

    def __init__(self) -> None:
        self._lock, self._blocks, self._before = threading.Lock(), 0, (torch.backends.cudnn, "", None)

    def enter(self) -> None:
        """Turn TF32 off for the first block, and remember the program's own setting."""
        with self._lock:
            self._blocks += 1
            if self._blocks > 1:
                return
            cudnn: Any = torch.backends.cudnn
            try:
                self._before = cudnn, "allow_tf32", cudnn.allow_tf32
            except RuntimeError:  # PyTorch refuses to read it if the program has used the newer name
                self._before = cudnn.conv, "fp32_precision", cudnn.conv.fp32_precision
            place, name, value = self._before
            setattr(place, name, "ieee" if isinstance(value, str) else False)

    def leave(self) -> None:
        """After the last block, put the program's own setting back."""
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                setattr(*self._before)


_tf32 = _Tf32Switch()


@contextmanager
def without_tf32() -> Iterator[None]:
    """Inside the block, an NVIDIA GPU computes convolutions in float32 without rounding their inputs to TF32.

    PyTorch's default is TF32, with 10 instead of 23 bits after the point. The setting is the whole process's, so it
    is put back afterwards; training has its own (training/resources.py).
    """
    _tf32.enter()
    try:
        yield
    finally:
        _tf32.leave()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside the block, networks that torch.compile has compiled run as they are written, and nothing is compiled.

    For passes in another mode than those of training: each mode and size needs a graph of its own, and after eight of
    them PyTorch no longer uses compiled code at all, without an error.
    """
    if "torch._dynamo" not in sys.modules:
        # Nothing is compiled, and importing the compiler would take two seconds.
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def reads_at_once(device: torch.device) -> bool:
    """Whether the CPU can read a value on `device` without waiting, so that each step can be checked."""
    return device.type == "cpu"


def room_for_pictures(device: torch.device, processes: int = 1) -> int:
    """How many bytes of pictures each of `processes` on this machine may keep on its `device`.

    Each process has a GPU of its own, but on other devices all share the memory of the machine.
    """
    if device.type == "cuda":
        return int(PICTURES_SHARE * torch.cuda.mem_get_info(device)[0])
    return int(PICTURES_SHARE * available_bytes() / processes)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = "DefaultCPUAllocator: can't allocate memory", *GPU_MEMORY
    return isinstance(error, RuntimeError) and any(part in str(error) for part in words)


def check_compiler(device: torch.device) -> None:
    """Compile a tiny function, to learn early whether torch.compile works. Raises ConfigError if it does not."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler can raise many kinds of errors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"torch.compile does not work here ({reason}): install a C++ compiler, or leave out --compile"
        ) from None
