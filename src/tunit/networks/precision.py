"""The dtype of what bfloat16 would round too much."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> torch.dtype:
    """float32; float64 for x in float64, as in tests that compare gradients with differences."""
    return torch.promote_types(x.dtype, torch.float32)
