"""The dtype of what bfloat16 would round too much, and of networks whatever PyTorch's default is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> torch.dtype:
    """float32; float64 for x in float64, as in tests that compare gradients with differences."""
    return torch.promote_types(x.dtype, torch.float32)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Inside the block, new networks are float32, as saved ones are, even if a program has set another default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
