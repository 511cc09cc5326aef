"""The key queue of the contrastive losses (MoCo, He et al., CVPR 2020)."""

import torch
from torch import Tensor


@torch.no_grad()
def push(queue: Tensor, keys: Tensor) -> Tensor:
    """The queue (length, width) after `keys` (n, width) were appended and the oldest ones removed.

    The whole queue is copied in each step (half a megabyte in the paper). This costs little, and a ring buffer would
    need a pointer to the oldest key.
    """
    return torch.cat([queue, keys.to(queue.dtype)])[-len(queue) :]
