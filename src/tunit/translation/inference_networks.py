"""The networks as a translator runs them: how a device computes them, and how many pictures at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tunit.machine import check_compiler
from tunit.methods.model_file import Model
from tunit.networks.guide import Guidance

# Pictures that a CPU computes together: enough to make up for transforming the kernels (networks.winograd).
CPU_PART = 16
Items = TypeVar("Items", Tensor, Sequence[Any])


@dataclass(frozen=True)
class InferenceNetworks:
    """E and G for inference."""

    guide: Callable[[Tensor], Guidance]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor]
    part: int | None  # how many pictures are computed together; None for any number

    def split(self, batch: Items) -> Iterator[Items]:
        """A batch in the parts that are computed together."""
        part = self.part or len(batch)
        return (batch[i : i + part] for i in range(0, len(batch), part))


def networks_for(model: Model, device: torch.device, *, compiled: bool) -> InferenceNetworks:
    """The networks of `model`, prepared for the device where they run.

    Convolutions are fastest in the channels-last memory format, and those of networks.winograd need it on a CPU, so
    `model` itself is converted to it. Raises ConfigError if they should be compiled and cannot be.
    """
    part = CPU_PART if device.type == "cpu" else None
    for network in (model.guide, model.generator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        check_compiler(device)
        encode, decode = torch.compile(model.generator.encode), torch.compile(model.generator.decode)
        return InferenceNetworks(torch.compile(model.guide), encode, decode, part)
    return InferenceNetworks(model.guide, model.generator.encode, model.generator.decode, part)
