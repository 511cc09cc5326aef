"""How much of a device's speed in matrix products a training step uses (like nanoGPT's MFU).

The floating-point operations of convolutions and matrix products are counted while they run, forward and backward.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

import tunit.networks.winograd  # noqa: F401  for its operators
from tunit.methods.method import Phase

RATE_SECONDS = 0.1  # the rate is measured for this long, and at least 3 times
SIDE = {"cpu": 512}  # side of the matrices whose product is timed; a GPU needs larger ones to be busy
LARGE_SIDE = 4096


def of_winograd(output: tuple[int, ...], channels: int) -> int:
    """The operations of the matrix products in a convolution to `output` (B, O, H, W), or in one of its gradients."""
    batch, kernels, height, width = output
    return 2 * (batch * height * width // 16) * 36 * channels * kernels


@register_flop_formula(torch.ops.tunit.convolve)
def _(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return of_winograd(out_shape, x[1])


@register_flop_formula(torch.ops.tunit.convolution_gradients)
def _(x: Any, dy: Any, weight: Any, edge: str, of_x: bool, of_weight: bool, *_: Any, **__: Any) -> int:
    return (of_x + of_weight) * of_winograd(dy, x[1])


@register_flop_formula(torch.ops.tunit.convolution_picture_gradient)
def _(dy: Any, weight: Any, *_: Any, **__: Any) -> int:
    return of_winograd(dy, weight[1])


@register_flop_formula(torch.ops.tunit.convolution_kernel_gradient)
def _(x: Any, dy: Any, *_: Any, **__: Any) -> int:
    return of_winograd(dy, x[1])


class CountFlops(TorchDispatchMode):
    """Counts in `total` the floating-point operations inside the block: a multiplication and an addition are two.

    Of operators in C only matrix products count. PyTorch's own FlopCounterMode also tracks modules, which fails for a
    gradient of a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether PyTorch must keep its compiler out of the block. False, because for this it would import the
        compiler, which takes two seconds; compiled steps are not counted anyway.
        """
        return False


class StepFlops:
    """The operations of a joint step with R1, and of one without, each counted when such a step is first taken."""

    def __init__(self, *, countable: bool = True) -> None:
        """countable: False if steps are compiled, because PyTorch does not see single operations then."""
        self._countable = countable
        self._found: dict[tuple[bool, int], int] = {}

    @contextmanager
    def counting(self, phase: Phase, size: int) -> Iterator[None]:
        """Count the operations of a step of `size` pictures, once for each kind; the step's result stays the same."""
        if not self._countable or not phase.joint or (phase.penalise, size) in self._found:
            yield
            return
        with CountFlops() as count:
            yield
        self._found[phase.penalise, size] = count.total

    def of(self, phase: Phase, size: int) -> int | None:
        """The operations of a step of `size` pictures in this process; None if not known, or if E trains alone."""
        return self._found.get((phase.penalise, size)) if phase.joint else None


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype, size: int = 0) -> float:
    """Floating-point operations per second in a product of two square matrices: the best of several measurements.

    It is measured once per process, because this takes RATE_SECONDS. size: the side of the matrices; 0 takes one
    that keeps the device busy.
    """
    size = size or SIDE.get(device.type, LARGE_SIDE)
    # No random numbers, so that the training's own do not change.
    values = torch.linspace(-1, 1, size * size, device=device, dtype=torch.float32)
    a = values.view(size, size).to(dtype)
    # How many products to compute before waiting for the device: on a large GPU, waiting takes a tenth of a product's
    # time.
    at_once = 1 if device.type == "cpu" else 8
    best, started, products = float("inf"), time.perf_counter(), 0
    while products < 3 or time.perf_counter() - started < RATE_SECONDS:
        began = time.perf_counter()
        for _ in range(at_once):
            product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, (time.perf_counter() - began) / at_once)
        products += 1
    return float(2 * size**3 / max(best, 1e-9))
