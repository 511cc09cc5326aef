"""Count kernel launches, bytes and operations of a step on a GPU, on any machine: the tensors hold no values.

  python benchmarks/counted.py

Every operator that is not a view counts as one launch. Its bytes are all that it reads and writes, as if there were
no cache. Casts to bfloat16 are those of CUDA's autocast: for convolutions and matrix products, not for operations
between them.
"""

import json
from collections import Counter
from typing import Any, ClassVar
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tunit.config import Config
from tunit.data.batching.batches import make_batch
from tunit.methods.method import Phase
from tunit.methods.tunit import TUNIT
from tunit.networks import penalised
from tunit.training.initial_state import new_state

META = torch.device("meta")
LOWERED = F.conv2d, F.conv1d, F.linear, torch.einsum, torch.matmul, Tensor.matmul
VIEWS = """
view _unsafe_view _reshape_alias expand permute t transpose slice select detach unsqueeze squeeze alias split
split_with_sizes unbind as_strided empty empty_like empty_strided new_empty new_empty_strided lift_fresh
"""
STEPS = {
    "128 px, batch 32, joint with R1": (128, 32, Phase(True, True, True)),
    "128 px, batch 32, joint without R1": (128, 32, Phase(True, True, False)),
    "128 px, batch 32, E alone": (128, 32, Phase(False, True, False)),
    "256 px, batch 16, joint with R1": (256, 16, Phase(True, True, True)),
}


class Autocast:
    """Replaces torch.autocast, which does not support a device without values."""

    levels: ClassVar[list[bool]] = [False]

    def __init__(self, *args: Any, enabled: bool = True, **kwargs: Any) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self.levels.append(self._enabled)

    def __exit__(self, *args: object) -> None:
        self.levels.pop()


class Lower(TorchFunctionMode):
    """Casts as autocast would."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if Autocast.levels[-1] and (func in LOWERED or getattr(func, "__name__", "") == "__matmul__"):
            args = tuple(_lowered(value) for value in args)
            kwargs = {name: _lowered(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _lowered(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(torch.bfloat16) if is_float else value


class Count(TorchDispatchMode):
    """Launches and bytes by operator, operations by type."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches, self.bytes, self.operations = Counter[str](), Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        tensors = [value for value in _tensors((args, out)) if value.device == META]
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.operations[str(tensors[0].dtype)] += count(*args, **kwargs, out_val=out)
        if tensors and name not in VIEWS.split():
            self.launches[name] += 1
            # An expanded tensor is read only once.
            self.bytes[name] += sum(
                value.untyped_storage().nbytes() if 0 in value.stride() else value.nbytes for value in tensors
            )
        return out


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [each for some in value for each in _tensors(some)] if isinstance(value, list | tuple) else []


def counted(side: int, number: int, phase: Phase) -> dict[str, Any]:
    config = Config().with_overrides(
        {"image_size": side, "batch_size": number, "domains": 10, "precision": "bfloat16"}
    )
    lowered = patch.object(penalised, "autocasts", lambda device: Autocast.levels[-1])
    with patch.object(torch, "autocast", Autocast), lowered:
        state = new_state(config, META, number)
        x = torch.empty(number, 3, side, side, device=META)
        for _ in range(2):  # the first step creates the optimisers' state
            with Lower(), Count() as count:
                batch = make_batch(x, x.clone(), torch.full((number,), -1))
                TUNIT.step(state, batch, torch.arange(number, device=META), phase, config)
    of_convolutions = sum(size for name, size in count.bytes.items() if "convolution" in name)
    return {
        "launches": sum(count.launches.values()),
        "GB": round(sum(count.bytes.values()) / 1e9, 1),
        "GB of convolutions": round(of_convolutions / 1e9, 1),
        "TFLOP": {name: round(value / 1e12, 2) for name, value in count.operations.items()},
        "GB of the largest": {name: round(value / 1e9, 1) for name, value in count.bytes.most_common(10)},
    }


if __name__ == "__main__":
    print(json.dumps({name: counted(*sizes) for name, sizes in STEPS.items()}, indent=2))
