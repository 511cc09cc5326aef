"""Networks on the meta device: their tensors have shapes, but no storage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.init import kaiming_normal_, kaiming_uniform_, normal_, uniform_
from torch.overrides import TorchFunctionMode

_DRAWING = (Tensor.normal_, Tensor.uniform_, kaiming_normal_, kaiming_uniform_, normal_, uniform_)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Tensors that are created inside have shapes, but neither memory nor values (device meta)."""
    with _NothingDrawn(), torch.device("meta"):
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the random initial values: PyTorch would import its compiler for them, which takes two seconds."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
