"""The networks as a translator runs them: which way of computing a device is given, and how much at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tunit.networks.device import check_compiler
from tunit.networks.guide import Guidance
from tunit.networks.model_file import Model
from tunit.networks.quick_convolutions import is_worth_it, quick_copy_of

# Pictures that a processor computes together: enough for whole matrices, few enough for its cache.
CPU_PART = 4
Items = TypeVar("Items", Tensor, Sequence[Any])


@dataclass(frozen=True)
class Networks:
    """E and G for inference."""

    guide: Callable[[Tensor], Guidance]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor]
    part: int | None  # pictures to be computed together; None for any number

    def split(self, batch: Items) -> Iterator[Items]:
        """A batch in the parts that are computed together."""
        part = self.part or len(batch)
        return (batch[i : i + part] for i in range(0, len(batch), part))


def networks_for(model: Model, device: torch.device, precision: str, *, compiled: bool) -> Networks:
    """The networks of `model` in the way that suits where and how precisely they run.

    In float32 a processor computes a quick copy of a wide G, whose results differ by rounding alone; a GPU has
    such algorithms of its own. Raises ConfigError where they are to be compiled and cannot be.
    """
    part = CPU_PART if device.type == "cpu" else None
    if compiled:
        check_compiler(device)
        encode, decode = torch.compile(model.generator.encode), torch.compile(model.generator.decode)
        return Networks(torch.compile(model.guide), encode, decode, part)
    generator = model.generator
    if device.type == "cpu" and precision == "float32" and is_worth_it(generator):
        generator = quick_copy_of(generator)
    return Networks(model.guide, generator.encode, generator.decode, part)
