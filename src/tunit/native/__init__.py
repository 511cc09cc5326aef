"""What is written in C, for a processor: how it is found and called.

It is compiled when tunit is installed (see pyproject.toml). Without a compiler there, PyTorch does its work. The
files in C stand beside this one; what they compute is said by those in Python that call them.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# As in interface.c; both change with any function's arguments, for an old library may still lie here.
INTERFACE = 8
LANES = 16  # channels come in multiples of these; as in lanes.h


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled code, or None where there is none."""
    found = importlib.util.find_spec("tunit.native._compiled")
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
        return library if library.tunit_interface() == INTERFACE else None
    except (OSError, AttributeError):  # for another processor, or of another version
        return None


def is_there() -> bool:
    """Whether it was compiled when tunit was installed."""
    return _library() is not None


def takes(x: Tensor) -> bool:
    """Whether compiled code can take x (B, C, H, W): float32, on a processor, in whole lanes of channels."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.numel() > 0
        and is_there()
    )


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to a contiguous (B, H, W, C); no copy of what lies so in memory already."""
    return x.permute(0, 2, 3, 1).contiguous()


def sizes(x: Tensor) -> tuple[int, int, int]:
    """Pictures, pixels and channels of x: (B, H, W, C)."""
    return len(x), x.shape[1] * x.shape[2], x.shape[3]


def apply(function: type[Function], *arguments: Any) -> Any:
    """`function` as a step of the graph that is differentiated."""
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


def call(name: str, *arguments: Tensor | float | None) -> None:
    """The function `tunit_<name>`, by as many threads as PyTorch has; tensors are given as pointers."""
    _run(None, name, arguments)


def ask(name: str, *arguments: int) -> int:
    """The number that the function `tunit_<name>` gives for so many threads as PyTorch has."""
    number: int = _run(ctypes.c_long, name, arguments)
    return number


def _run(result: type[ctypes.c_long] | None, name: str, arguments: Sequence[Tensor | float | None]) -> Any:
    library = _library()
    assert library is not None
    function = getattr(library, f"tunit_{name}")
    function.restype = result
    return function(*(_in_c(value) for value in arguments), ctypes.c_long(torch.get_num_threads()))


def _in_c(value: Tensor | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None if value is None else value.data_ptr())
