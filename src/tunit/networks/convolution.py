"""The convolutions that E, G and D are made of, each in the way that suits its size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.networks.winograd import FEWEST_CHANNELS, Edge, convolve, is_worth_it

# For pictures of so few pixels PyTorch's gradient of the kernels takes several times as long as a product of matrices
# on a processor.
FEW_PIXELS = 4
FEW_CHANNELS = 4  # of an output, where a processor could compute many more at once


def convolve_3x3(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The convolution of x (B, C, H, W) with stride 1 and one pixel of padding: (B, O, H, W).

    weight: (O, C, 3, 3); bias: (O,). edge: what lies outside x, "zeros", "replicate" or "reflect".
    """
    if is_worth_it(x, weight, edge):
        return convolve(x, weight, bias, edge)
    if _is_small(x):
        return _convolve_as_matrix(x, weight, bias, edge)
    if edge == "zeros":
        return F.conv2d(x, weight, bias, padding=1)
    return F.conv2d(_with_edge(x, edge), weight, bias)


def convolve_halving(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The convolution of x (B, C, H, W) with stride 2 and one pixel of padding: (B, O, H / 2, W / 2).

    weight: (O, C, 4, 4); bias: (O,). edge: what lies outside x.
    """
    if is_worth_it(x, weight, edge):
        return convolve(x, weight, bias, edge)
    return F.conv2d(_with_edge(x, edge), weight, bias, stride=2)


def convolve_to_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of x (B, C, H, W), with reflection padding, to few channels: (B, O, H, W).

    weight: (O, C, k, k), k odd; bias: (O,). A processor computes many channels at once: on one, each row of the
    kernels has channels of its own, which are then added up.
    """
    side, height = weight.shape[-1], x.shape[2]
    around = F.pad(x, (side // 2,) * 4, mode="reflect")
    if x.device.type != "cpu":
        return F.conv2d(around, weight, bias)
    rows = F.conv2d(around, weight.permute(2, 0, 1, 3).flatten(0, 1).unsqueeze(2)).chunk(side, dim=1)
    y = rows[0][:, :, :height]
    for a, row in enumerate(rows[1:], start=1):
        y = y + row[:, :, a : a + height]
    return y if bias is None else y + bias[:, None, None]


def _with_edge(x: Tensor, edge: Edge) -> Tensor:
    """x with a pixel more on each side."""
    if edge == "replicate":
        return _repeat_edges(x)
    return F.pad(x, (1, 1, 1, 1), mode="constant" if edge == "zeros" else edge)


def _repeat_edges(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C, h + 2, w + 2), as F.pad does, of whose backward torch.compile takes the layout wrong."""
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)


def _is_small(x: Tensor) -> bool:
    _, channels, height, width = x.shape
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and channels >= FEWEST_CHANNELS
        and height * width <= FEW_PIXELS
        and not torch.is_autocast_enabled("cpu")
    )


def _convolve_as_matrix(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """A matrix of every pixel's neighbourhood times one of the kernels."""
    height, width = x.shape[2:]
    around = _with_edge(x, edge).permute(0, 2, 3, 1)
    near = [around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    pixels, kernels = torch.stack(near, dim=3).flatten(3), weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(pixels, kernels, bias).permute(0, 3, 1, 2)
