"""torch.compile for training; each method names the modules to compile."""

from collections.abc import Iterable

import torch
from torch import nn

from tunit.distributed import keep_out_of_compiled_code
from tunit.machine import check_compiler


def compile_parts(parts: Iterable[nn.Module], device: torch.device, backend: str = "inductor") -> None:
    """Compile each of `parts` at its first forward pass.

    The names of weights in checkpoints stay the same. Raises ConfigError if no compiler works here.
    backend: as for torch.compile.
    """
    if backend == "inductor":
        check_compiler(device)
    keep_out_of_compiled_code()
    for part in parts:
        part.compile(backend=backend)
