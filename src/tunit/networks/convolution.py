"""The convolutions of E, G and D, each computed in the way that is fastest for its size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.networks.padding import padded
from tunit.networks.penalised import convolve_padded
from tunit.networks.winograd import FEWEST_CHANNELS, Edge, convolve, is_worth_it, reference, with_edge

# For pictures of at most this many pixels, on a CPU, PyTorch's gradient of the kernels takes several times as long as
# a matrix product.
FEW_PIXELS = 4
FEW_CHANNELS = 4  # with at most this many output channels, a convolution cannot keep a CPU busy


def convolve_3x3(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The convolution of x (B, C, H, W) with stride 1 and one pixel of padding: (B, O, H, W).

    weight: (O, C, 3, 3); bias: (O,). edge: what lies outside x, "zeros", "replicate" or "reflect".
    """
    if is_worth_it(x, weight, edge):
        y: Tensor = convolve(x, weight, bias, edge)
        return y
    if _is_small(x):
        if x.shape[2:] == (2, 2) and edge == "zeros" and 4 * len(x) >= len(weight):
            return _convolve_2x2(x, weight, bias)
        return _convolve_as_matrix(x, weight, bias, edge)
    if edge == "zeros":
        return convolve_padded(x, weight, bias, 1)
    return reference(x, weight, bias, edge)


def convolve_to_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of x (B, C, H, W), with reflection padding, to few channels: (B, O, H, W).

    weight: (O, C, k, k), k odd; bias: (O,). A CPU computes many output channels at once. To have more of them, each
    row of a kernel becomes a kernel of its own, with its own output channels, and the results of the rows are added
    up.
    """
    side, height = weight.shape[-1], x.shape[2]
    around = padded(x, side // 2, side // 2, "reflect")
    if x.device.type != "cpu":
        return F.conv2d(around, weight, bias)
    rows = F.conv2d(around, weight.permute(2, 0, 1, 3).flatten(0, 1).unsqueeze(2)).chunk(side, dim=1)
    y = rows[0][:, :, :height]
    for a, row in enumerate(rows[1:], start=1):
        y = y + row[:, :, a : a + height]
    return y if bias is None else y + bias[:, None, None]


def _is_small(x: Tensor) -> bool:
    _, channels, height, width = x.shape
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and channels >= FEWEST_CHANNELS
        and height * width <= FEW_PIXELS
        and not torch.is_autocast_enabled("cpu")
    )


def _convolve_2x2(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of pictures of 2 x 2 pixels with zero padding, as a matrix product.

    Each of the four output pixels depends on four pixels, so 16 products suffice instead of 36. But the nine weights
    of each kernel must be copied into a matrix of 16 numbers, so time is saved only if there are many pictures.
    """
    batch, channels = x.shape[:2]
    kernels = weight.permute(0, 2, 3, 1)
    # For each output pixel (i, j), the weights of the four pixels: (4, O, 2, 2, C).
    pixel_weights = torch.stack(
        [kernels[:, 1 - i : 3 - i, 1 - j : 3 - j] for i in range(2) for j in range(2)]
    )
    matrix = pixel_weights.view(4 * len(weight), 4 * channels)
    pixels = x.permute(0, 2, 3, 1).reshape(batch, 4 * channels)
    y = F.linear(pixels, matrix, None if bias is None else bias.repeat(4))
    return y.view(batch, 2, 2, len(weight)).permute(0, 3, 1, 2)


def _convolve_as_matrix(x: Tensor, weight: Tensor, bias: Tensor | None, edge: Edge) -> Tensor:
    """The convolution as one product of matrices: all pixels' 3 x 3 neighbourhoods times the kernels."""
    height, width = x.shape[2:]
    around = with_edge(x, edge).permute(0, 2, 3, 1)
    near = [around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    pixels, kernels = torch.stack(near, dim=3).flatten(3), weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(pixels, kernels, bias).permute(0, 3, 1, 2)
