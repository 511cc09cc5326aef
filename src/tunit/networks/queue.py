"""The key queue of the contrastive losses (MoCo, He et al., CVPR 2020)."""

import torch
from torch import Tensor


@torch.no_grad()
def push(queue: Tensor, keys: Tensor) -> Tensor:
    """The queue (length, width) after `keys` (n, width) join at its end: first in, first out.

    The whole queue is copied at each step (half a megabyte in the paper): that costs little and needs no position.
    """
    return torch.cat([queue, keys.to(queue.dtype)])[-len(queue) :]
