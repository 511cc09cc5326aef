"""Nearest up-sampling and the 5 x 5 convolution after it as one convolution of the small picture.

Up-sampling repeats every pixel, so a 5 x 5 window of the large picture sees 3 x 3 pixels of the small one, some of
its taps the same pixel. Their weights are added up beforehand: 9 products for an output pixel instead of 25.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.networks.layers import ReflectConv2d

KERNEL = 5
# Which of the five taps fall together, for output pixels of even and of odd position: (2, 3, 5).
_TAPS = (
    ((1, 1, 0, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 0, 1)),
    ((1, 0, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 1)),
)


class UpsamplingConv2d(ReflectConv2d):
    """Nearest up-sampling x 2, reflection padding, 5 x 5 convolution with bias: (B, in, h, w) to (B, out, 2 h, 2 w).

    Its parameters are those of the plain convolution, and so is its result but for rounding. h, w: at least 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x, twice as large."""
        assert self.bias is not None
        taps = torch.tensor(_TAPS, dtype=self.weight.dtype, device=x.device)
        # The four output pixels of an input pixel as four groups of channels, which the shuffle lays out in space.
        weight = torch.einsum("pai,qbj,ocij->opqcab", taps, taps, self.weight).flatten(0, 2)
        weight = weight.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(_repeat_edges(x), weight, self.bias.repeat_interleave(4))
        y = F.pixel_shuffle(y, 2)
        return self._reflect_edges(y, x)

    def _reflect_edges(self, y: Tensor, x: Tensor) -> Tensor:
        """What reflection adds to the outermost rows and columns of y, whose input repeated the edge so far.

        Only the outermost of the five taps there sees another pixel: the edge's neighbour, not the edge.
        """
        h, w = x.shape[2:]
        k = self.weight
        rows = torch.cat([x[:, :, 1] - x[:, :, 0], x[:, :, -2] - x[:, :, -1]], dim=1)  # (B, 2 in, w)
        columns = torch.cat([x[..., 1] - x[..., 0], x[..., -2] - x[..., -1]], dim=1)  # (B, 2 in, h)
        # Columns go over rows that repeat their edge: what reflection changes at corners is in the rows already.
        rows = _convolve_lines(rows, torch.cat([k[:, :, 0], k[:, :, 4]]), "reflect")
        columns = _convolve_lines(columns, torch.cat([k[..., 0], k[..., 4]]), "replicate")
        y[:, :, :: 2 * h - 1] += rows
        y[..., :: 2 * w - 1] += columns.transpose(2, 3)
        return y


def _repeat_edges(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C, h + 2, w + 2), as F.pad does, of whose backward torch.compile takes the layout wrong."""
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)


def _convolve_lines(lines: Tensor, weight: Tensor, padding: str) -> Tensor:
    """Two lines (B, 2 in, n), up-sampled and convolved each with its own weight (2 out, in, 5): (B, out, 2, 2 n)."""
    large = F.pad(lines.repeat_interleave(2, dim=2), (2, 2), mode=padding)
    y = F.conv1d(large, weight, groups=2)
    return y.view(len(y), 2, -1, y.shape[2]).transpose(1, 2)
