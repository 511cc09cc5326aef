"""Reflection and replication padding whose gradients are reproducible bit for bit on a GPU.

On a GPU, PyTorch's padding adds up gradients in a varying order, so a resumed run would differ from an uninterrupted
one; it also loses the channels-last layout. On a CPU, PyTorch's own padding is used.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

Repeated = Literal["reflect", "replicate"]


def by_pytorch(x: Tensor) -> bool:
    """Whether to use PyTorch's own padding for x: on a CPU, and inside torch.compile."""
    return x.device.type == "cpu" or torch.compiler.is_compiling()


def padded(x: Tensor, rows: int, columns: int, edge: Repeated) -> Tensor:
    """x (B, C, H, W) with `rows` rows added above and below, and `columns` columns left and right.

    x may also be (B, C, W), with rows 0.
    """
    is_line = x.dim() == 3
    if by_pytorch(x):
        return F.pad(x, (columns, columns) if is_line else (columns, columns, rows, rows), mode=edge)
    y: Tensor = Padded.apply(x.unsqueeze(2) if is_line else x, rows, columns, edge)  # type: ignore[no-untyped-call]
    return y.squeeze(2) if is_line else y


class Padded(Function):
    """The operation of `padded`, by copying rows and columns. Its gradient can be differentiated, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: int, columns: int, edge: str) -> Tensor:
        """Copy the picture, then its rows outwards, then columns."""
        ctx.sizes, ctx.edge = (rows, columns), edge
        height, width = x.shape[2:]
        if edge == "reflect" and (rows >= height or columns >= width):  # as in F.pad
            raise ValueError(
                f"reflection by {rows} x {columns} pixels needs more than {height} x {width} of them"
            )
        # Keep the memory layout of x. The strides show it, even if x is a single row.
        last = x.stride(1) == 1 and x.shape[1] > 1
        y = torch.empty(
            (*x.shape[:2], height + 2 * rows, width + 2 * columns),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        y[:, :, rows : rows + height, columns : columns + width] = x
        for dim, outside, inside in _lines(height, width, rows, columns, edge):
            y.select(dim, outside).copy_(y.select(dim, inside))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        """Add the gradient of each copied line to that of its original, in the opposite order."""
        rows, columns = ctx.sizes
        height, width = dy.shape[2] - 2 * rows, dy.shape[3] - 2 * columns
        dx = dy.clone()
        for dim, outside, inside in reversed(_lines(height, width, rows, columns, ctx.edge)):
            dx.select(dim, inside).add_(dx.select(dim, outside))
        return dx[:, :, rows : rows + height, columns : columns + width], None, None, None


def _lines(height: int, width: int, rows: int, columns: int, edge: str) -> list[tuple[int, int, int]]:
    """For each line (row or column) of the padding: its dimension, its index, and the index of the line it copies.

    Indices count from the edge of the padded picture.
    """
    found = []
    for dim, size, pad in ((2, height, rows), (3, width, columns)):
        for i in range(pad):
            away = i + 1 if edge == "reflect" else 0
            found += [(dim, pad - 1 - i, pad + away), (dim, pad + size + i, pad + size - 1 - away)]
    return found
