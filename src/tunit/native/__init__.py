"""Compiled code for the CPU: whether it is there, and calls of it with every argument checked.

It is compiled when tunit is installed (see pyproject.toml) from the files in C beside this one. Each function belongs
to an operator of PyTorch (`torch.library`) in networks/winograd.py or networks/filter_response.py, where the
reference in PyTorch beside it specifies what it computes. The references do all the work where nothing is compiled,
where the CPU cannot run it, and where the environment says TUNIT_NATIVE=0.
"""

import ctypes
import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

SWITCH = "TUNIT_NATIVE"  # 0 turns compiled code off
# As in interface.c. Both change with any function's arguments, because an old library may still be installed.
INTERFACE = 9
LANES = 16  # channels come in multiples of these; as in lanes.h

# The arguments of each function: p is a pointer, n one that may be null, l an integer, f a float. The number of
# threads comes last.
_FUNCTIONS = {
    "winograd_convolve": "ppnppllllll",
    "winograd_backward": "npnnnnpllllll",
    "winograd_workspace": "llllll",
    "filter_response": "pppppplllf",
    "filter_response_backward": "ppppppplll",
    "filter_response_backward_twice": "ppppppppplll",
}
_KINDS = {"p": ctypes.c_void_p, "n": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float}
# A number; or a tensor with the shape that it must have, which becomes a pointer (None becomes a null pointer).
Argument = tuple[Tensor | None, tuple[int, ...]] | float


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled code, or None where there is none that this CPU can run."""
    found = importlib.util.find_spec("tunit.native._compiled")
    if found is None or found.origin is None:
        return None
    return load(found.origin)


def load(path: str) -> ctypes.CDLL | None:
    """The compiled code at `path`, its functions declared; None where it is of another version or another CPU."""
    try:
        library = ctypes.CDLL(path)
        if library.tunit_interface() != INTERFACE or not library.tunit_vectors():
            return None
        for name, kinds in _FUNCTIONS.items():
            function = getattr(library, f"tunit_{name}")
            function.argtypes = [*(_KINDS[kind] for kind in kinds), ctypes.c_long]
            function.restype = ctypes.c_long
    except (OSError, AttributeError):
        return None
    return library


def is_off() -> bool:
    """Whether the environment turns compiled code off."""
    return os.environ.get(SWITCH, "").strip() == "0"


def is_available() -> bool:
    """Whether compiled code is there and not turned off."""
    return not is_off() and _library() is not None


def is_missing() -> bool:
    """Whether there is no compiled code although it is not turned off."""
    return not is_off() and _library() is None


def describe() -> str:
    """Which code computes on the CPU, in words, for the record of a run."""
    if is_off():
        return f"off ({SWITCH}=0)"
    library = _library()
    return "not compiled" if library is None else f"vectors of {library.tunit_vectors()} floats"


def supports(x: Tensor) -> bool:
    """Whether compiled code can take x (B, C, H, W): float32, on a CPU, channels in multiples of LANES."""
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


def pictures_of(x: Tensor) -> tuple[int, int, int]:
    """The numbers of pictures, pixels and channels of x (B, C, H, W), as functions in C take them."""
    batch, channels, height, width = x.shape
    if channels % LANES:
        raise ValueError(f"x has {channels} channels, not a multiple of {LANES}")
    return batch, height * width, channels


def call(name: str, *arguments: Argument, threads: int | None = None) -> int:
    """The result of the function `tunit_<name>`, with as many threads as PyTorch has unless `threads` says otherwise.

    Raises ValueError for an argument of another type or shape than C expects, MemoryError if memory runs out in C.
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
    """An argument as C takes it: a number, or the address of a tensor."""
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
