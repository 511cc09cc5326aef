"""C code for the CPU: find the compiled library, and call its functions with every argument checked.

It is compiled from the C files in this folder when tunit is installed (see pyproject.toml). Each function belongs to
an operator of PyTorch (`torch.library`) in networks/winograd.py or networks/filter_response.py; the reference beside
the operator, written in PyTorch, specifies what it computes. The references are used if nothing is compiled, if the
CPU cannot run the library, or if the environment variable TUNIT_NATIVE is 0.
"""

import ctypes
import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

SWITCH = "TUNIT_NATIVE"  # environment variable: 0 turns the C code off
# The version of the functions' arguments; interface.c has the same number. Increase both if any arguments change, so
# that a library that was compiled earlier is not used.
INTERFACE = 9
LANES = 16  # the number of channels must be a multiple of this; as in lanes.h

# The arguments of each function: p is a pointer, n a pointer that may be null, l an integer, f a float. One more
# argument, the number of threads, follows in every function.
_FUNCTIONS = {
    "winograd_convolve": "ppnppllllll",
    "winograd_backward": "npnnnnpllllll",
    "winograd_workspace": "llllll",
    "filter_response": "pppppplllf",
    "filter_response_backward": "ppppppplll",
    "filter_response_backward_twice": "ppppppppplll",
}
_KINDS = {"p": ctypes.c_void_p, "n": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float}
# A number, or a tensor with the shape that it must have. C gets a pointer to the tensor's data, or a null pointer for
# None.
Argument = tuple[Tensor | None, tuple[int, ...]] | float


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled library, or None if there is none that this CPU can run."""
    path = _path()
    return None if path is None else load(path)


def _path() -> str | None:
    found = importlib.util.find_spec("tunit.native._compiled")
    return None if found is None else found.origin


def load(path: str) -> ctypes.CDLL | None:
    """The library at `path`, with its functions declared; None if it is of another version, or for another CPU."""
    try:
        library = _of_this_version(path)
        if library is None or not library.tunit_vectors():
            return None
        for name, kinds in _FUNCTIONS.items():
            function = getattr(library, f"tunit_{name}")
            function.argtypes = [*(_KINDS[kind] for kind in kinds), ctypes.c_long]
            function.restype = ctypes.c_long
    except (OSError, AttributeError):
        return None
    return library


def _of_this_version(path: str) -> ctypes.CDLL | None:
    library = ctypes.CDLL(path)
    return library if library.tunit_interface() == INTERFACE else None


@cache
def _is_for_another_cpu() -> bool:
    """Whether a library of this version is there, but this CPU cannot run it."""
    path = _path()
    try:
        library = None if path is None else _of_this_version(path)
        return library is not None and not library.tunit_vectors()
    except (OSError, AttributeError):
        return False


def is_off() -> bool:
    """Whether TUNIT_NATIVE turns the C code off."""
    return os.environ.get(SWITCH, "").strip() == "0"


def is_available() -> bool:
    """Whether the C code is compiled and not turned off."""
    return not is_off() and _library() is not None


def is_missing() -> bool:
    """Whether the C code is missing although it is not turned off, and this CPU could run it."""
    return not is_off() and _library() is None and not _is_for_another_cpu()


def describe() -> str:
    """Which code is used on the CPU, in words, for run.json."""
    if is_off():
        return f"off ({SWITCH}=0)"
    library = _library()
    if library is None:
        return "not for this CPU" if _is_for_another_cpu() else "not compiled"
    return f"vectors of {library.tunit_vectors()} floats"


def supports(x: Tensor) -> bool:
    """Whether the C code can be used for x (B, C, H, W): float32, on a CPU, with a multiple of LANES channels.

    False inside torch.compile, and if the C code is missing or turned off.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.numel() > 0
        and is_available()
    )


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to a contiguous (B, H, W, C); copies only if the memory is not in that order already."""
    return x.permute(0, 2, 3, 1).contiguous()


def empty_last(like: Tensor, *shape: int) -> Tensor:
    """An empty tensor (B, C, H, W) for an operator's result, with the channels last; `like` gives dtype and device.

    It is not a view of a tensor (B, H, W, C), because PyTorch lets nobody change an operator's result in place if it
    is a view. C writes to its `channels_last`, which is a view of it.
    """
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def pictures_of(x: Tensor) -> tuple[int, int, int]:
    """The numbers of pictures, pixels and channels of x (B, C, H, W), as arguments for C functions."""
    batch, channels, height, width = x.shape
    if channels % LANES:
        raise ValueError(f"x has {channels} channels, not a multiple of {LANES}")
    return batch, height * width, channels


def call(name: str, *arguments: Argument, threads: int | None = None) -> int:
    """Call the C function `tunit_<name>` and return its result. threads: None uses as many as PyTorch.

    Raises ValueError if an argument does not have the type or shape that C expects, MemoryError if memory runs out in
    C.
    """
    library, kinds = _library(), _FUNCTIONS[name]
    if library is None:
        raise RuntimeError(f"tunit_{name} is not compiled here: ask `supports` before it is called")
    if len(arguments) != len(kinds):
        raise ValueError(f"tunit_{name} takes {len(kinds)} arguments, not {len(arguments)}")
    values = [
        _checked(f"argument {i} of tunit_{name}", kind, argument)
        for i, (kind, argument) in enumerate(zip(kinds, arguments, strict=True))
    ]
    result: int = getattr(library, f"tunit_{name}")(*values, threads or torch.get_num_threads())
    if result and not name.endswith("workspace"):
        raise MemoryError(f"memory ran out in tunit_{name}")
    return result


def _checked(what: str, kind: str, argument: Argument) -> int | float | None:
    """An argument in the form for C: a number, or the address of a tensor."""
    if kind in "lf":
        if isinstance(argument, int) or (kind == "f" and isinstance(argument, float)):
            return argument
        raise ValueError(f"{what} is {argument!r}, not {'an integer' if kind == 'l' else 'a number'}")
    tensor, shape = argument if isinstance(argument, tuple) else (argument, None)
    if tensor is None and kind == "n":
        return None
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{what} is {tensor!r}, not a tensor")
    if (
        tensor.dtype != torch.float32
        or tensor.device.type != "cpu"
        or tuple(tensor.shape) != shape
        or not tensor.is_contiguous()
    ):
        raise ValueError(
            f"{what} must be a contiguous float32 of shape {shape} on the CPU, not {tensor.dtype} of shape "
            f"{tuple(tensor.shape)} and strides {tensor.stride()} on {tensor.device}"
        )
    return tensor.data_ptr()
