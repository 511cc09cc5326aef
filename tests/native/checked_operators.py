"""Every operator and every gradient, compared with its reference in float64. Run directly, with the path of the
library.
"""

import sys

import torch
from torch import Tensor

from tunit import native
from tunit.networks import filter_response, winograd

# Pictures, input channels, output channels, height and width: sizes of the presets, sizes that no preset has, and
# more channels and tiles than one block of work.
CONVOLUTIONS = [(2, 96, 48, 4, 8), (9, 32, 144, 8, 4), (3, 48, 192, 4, 4), (16, 144, 32, 8, 8)]
NORMS = [(2, 48, 4, 4), (3, 96, 9, 8), (2, 192, 4, 2)]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def compare(operator, reference, inputs: list[Tensor], what: object) -> None:
    """Results and gradients. If the operator returns several tensors, the first is the result."""
    found, dy = [], None
    for function, kind in ((operator, torch.float32), (reference, torch.float64)):
        values = [value.to(kind).requires_grad_() for value in inputs]
        y = function(*values)
        y = y if isinstance(y, Tensor) else y[0]
        dy = draw(*y.shape) if dy is None else dy
        found.append([y, *torch.autograd.grad(y, values, dy.to(kind))])
    for single, exact in zip(*found, strict=True):
        error = (single.double() - exact).abs().max() / exact.abs().max()
        assert error < 5e-5, f"{what}: {error}"


def check_all() -> None:
    torch.manual_seed(0)
    for batch, channels, kernels, height, width in CONVOLUTIONS:
        for edge in ("zeros", "replicate", "reflect"):
            x = draw(batch, channels, height, width)
            weight = draw(kernels, channels, 3, 3) / (3 * channels**0.5)
            compare(
                lambda *values, edge=edge: winograd.convolve(*values, edge),
                lambda *values, edge=edge: winograd.reference(*values, edge),
                [x, weight, draw(kernels)],
                (x.shape, weight.shape, edge),
            )
    for shape in NORMS:
        parameters = [draw(shape[1]) + i for i in range(3)]
        compare(
            filter_response.filter_response_norm,
            filter_response.reference,
            [draw(*shape), *parameters],
            shape,
        )
        values = [draw(*shape), draw(*shape) + 1, draw(shape[1]), draw(shape[1]), draw(*shape[:2])]
        dx = filter_response.picture_gradient(*(value.float().requires_grad_() for value in values))
        dx.sum().backward()
        assert dx.isfinite().all()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    library = native.load(sys.argv[1])
    assert library is not None
    native._library = lambda: library  # type: ignore[assignment]
    check_all()
    print("all right")
