"""torch.compile for a training: of which modules, its method says."""

from collections.abc import Iterable

import torch
from torch import nn

from tunit.machine import check_compiler


def compile_parts(parts: Iterable[nn.Module], device: torch.device, backend: str = "inductor") -> None:
    """Let passes of each of `parts` be compiled when they are first taken.

    Names of weights, and so checkpoints, stay as they are. Raises ConfigError where there is no compiler that works.
    backend: of torch.compile.
    """
    if backend == "inductor":
        check_compiler(device)
    for part in parts:
        part.compile(backend=backend)
