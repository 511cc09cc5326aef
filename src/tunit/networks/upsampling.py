"""Nearest up-sampling followed by a 5 x 5 convolution, computed as one convolution of the small picture.

Up-sampling repeats every pixel, so a 5 x 5 window of the large picture covers only 3 x 3 pixels of the small one, and
several of the 25 weights are multiplied by the same pixel. These weights are added up first. Then an output takes 9
products instead of 25.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from tunit.networks.convolution import convolve_3x3
from tunit.networks.layers import ReflectConv2d
from tunit.networks.padding import Repeated, padded

KERNEL = 5
# (2, 3, 5): for outputs at even and at odd positions, and for each of three small pixels, which of the five weights
# of a row are multiplied by this pixel.
_TAPS = (
    ((1, 1, 0, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 0, 1)),
    ((1, 0, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 1)),
)


class UpsamplingConv2d(ReflectConv2d):
    """Nearest up-sampling x 2, reflection padding, 5 x 5 convolution with bias: (B, in, h, w) to (B, out, 2 h, 2 w).

    Parameters and, except for rounding, result are the same as for the plain convolution. h, w: at least 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL)
        # A buffer stays on the device. Copying it there in every pass would make the CPU wait for the GPU.
        self.register_buffer("taps", torch.tensor(_TAPS, dtype=self.weight.dtype), persistent=False)
        self.taps: Tensor
        self._kept: tuple[tuple[int, int], Tensor] | None = None  # which weights, and their kernels

    @torch.no_grad()
    def keep_kernels(self) -> None:
        """Keep the kernels for the small picture, for inference: adding up the weights takes a quarter of the
        decoder's time for one picture. After a change of the weights, every pass computes the kernels again.

        Nothing is kept for weights that were made in inference mode, because PyTorch does not count their changes.
        """
        identity = _identity(self.weight)
        self._kept = None if identity is None else (identity, self._kernels())

    def _kernels(self) -> Tensor:
        return weight_for_small(self.weight, self.taps).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) to (B, out, 2 h, 2 w)."""
        assert self.bias is not None
        kept = None if torch.compiler.is_compiling() or torch.is_grad_enabled() else self._kept
        weight = kept[1] if kept and kept[0] == _identity(self.weight) else self._kernels()
        y = convolve_3x3(x, weight, self.bias.repeat_interleave(4), "replicate")
        return reflect_edges(F.pixel_shuffle(y, 2), x, self.weight)


def _identity(weight: Tensor) -> tuple[int, int] | None:
    """Two numbers that change if a parameter is moved or its values change; None if changes are not counted."""
    return None if weight.is_inference() else (weight.data_ptr(), weight._version)


def weight_for_small(weight: Tensor, taps: Tensor) -> Tensor:
    """The kernels for the small picture: (out, in, 5, 5) to (4 * out, in, 3, 3).

    They give four outputs for each small pixel; `F.pixel_shuffle` arranges these as 2 x 2 pixels. taps: `_TAPS`.
    """
    return torch.einsum("pai,qbj,ocij->opqcab", taps, taps, weight).flatten(0, 2)


def reflect_edges(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Correct y, in place: it was computed from x with replication padding, but reflection padding is wanted.

    y: (B, out, 2 h, 2 w). x: (B, in, h, w). weight: (out, in, 5, 5). The two paddings give different results only in
    the outermost rows and columns of y. There, replication multiplies the outermost of the five weights by the edge
    pixel of x, reflection by the pixel next to it; so the difference of these two pixels is convolved and added.
    """
    h, w = x.shape[2:]
    # Without _EdgeDifferences, autograd would create and add up a picture of zeros for each of eight lines.
    # torch.compile avoids that by itself.
    differences = _edge_differences if torch.compiler.is_compiling() else _EdgeDifferences.apply
    rows, columns = differences(x)
    # The corners need both corrections. They are computed as if one came after the other: first that of the columns,
    # while rows are still padded by replication; then that of the rows, with columns already padded by reflection.
    rows = _convolve_lines(rows, torch.cat([weight[:, :, 0], weight[:, :, 4]]), "reflect")
    columns = _convolve_lines(columns, torch.cat([weight[..., 0], weight[..., 4]]), "replicate")
    y[:, :, :: 2 * h - 1] += rows
    y[..., :: 2 * w - 1] += columns.transpose(2, 3)
    return y


def _edge_differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """The line next to each edge of x (B, C, h, w) minus the edge itself: rows (B, 2 C, w), columns (B, 2 C, h)."""
    rows = torch.cat([x[:, :, 1] - x[:, :, 0], x[:, :, -2] - x[:, :, -1]], dim=1)
    return rows, torch.cat([x[..., 1] - x[..., 0], x[..., -2] - x[..., -1]], dim=1)


class _EdgeDifferences(Function):
    """`_edge_differences`, with a backward pass that creates only one picture."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return _edge_differences(x)

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor, d_columns: Tensor) -> Tensor:
        """The gradient (B, C, h, w) of x, from those of the rows (B, 2 C, w) and of the columns (B, 2 C, h)."""
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        for line, edge, of_row, of_column in zip(
            (1, -2), (0, -1), d_rows.chunk(2, 1), d_columns.chunk(2, 1), strict=True
        ):
            dx[:, :, line] += of_row
            dx[:, :, edge] -= of_row
            dx[..., line] += of_column
            dx[..., edge] -= of_column
        return dx


def _convolve_lines(lines: Tensor, weight: Tensor, padding: Repeated) -> Tensor:
    """Up-sample two lines (B, 2 in, n) and convolve each with its own weights (2 out, in, 5): (B, out, 2, 2 n)."""
    large = padded(lines.repeat_interleave(2, dim=2), 0, 2, padding)
    y = F.conv1d(large, weight, groups=2)
    return y.view(y.shape[0], 2, -1, y.shape[2]).transpose(1, 2)
