"""Floating-point operations of convolutions and matrix products, forward and backward, as they are carried out."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class CountFlops(TorchDispatchMode):
    """`total` after the block: a product and a sum count as two. What is in C counts nothing.

    PyTorch's own counter follows modules too, which a gradient of a gradient confuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        in_place = func.overloadpacket is torch.ops.aten.baddbmm_
        count = flop_registry.get(torch.ops.aten.baddbmm if in_place else func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out
