"""Floating-point operations of convolutions and matrix products, forward and backward, as they are carried out."""

from typing import Any, Self
from unittest.mock import patch

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tunit import native


class CountFlops(TorchDispatchMode):
    """`total` after the block: a product and a sum count as two. Of what is in C the products of matrices count.

    PyTorch's own counter follows modules too, which a gradient of a gradient confuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._in_c = patch("tunit.networks.winograd.call", self._call)

    def __enter__(self) -> Self:
        self._in_c.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._in_c.stop()

    def _call(self, name: str, *arguments: Any) -> None:
        """`native.call` for a convolution, which ends with the sizes of it, or its two gradients."""
        native.call(name, *arguments)
        products = 1 if name.endswith("_convolve") else sum(d is not None for d in arguments[3:5])
        if name.startswith("winograd"):
            batch, height, width, channels, kernels, _ = arguments[-6:]
            halving = name.startswith("winograd_halving")
            of_a_tile = 25 * 4 * channels * kernels if halving else 36 * channels * kernels
            self.total += products * 2 * (batch * height * width // 16) * of_a_tile
        else:
            batch, channels, kernels = arguments[-3:]
            self.total += products * 2 * 16 * batch * channels * kernels

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out
