"""E and G prepared for inference on a device, and how many pictures they compute at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tunit.machine import check_compiler
from tunit.methods.model_file import Model
from tunit.networks.guide import Guidance

# How many pictures a CPU computes together. With fewer, transforming the kernels costs more than it saves
# (networks.winograd).
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
        """Split a batch into the parts that are computed together."""
        part = self.part or len(batch)
        return (batch[i : i + part] for i in range(0, len(batch), part))


def networks_for(model: Model, device: torch.device, *, compiled: bool) -> InferenceNetworks:
    """The networks of `model`, prepared for the device where they run.

    Convolutions are fastest in the channels-last memory format, and networks.winograd needs it on a CPU; so `model`
    itself is converted to it. Raises ConfigError if the networks should be compiled but cannot be.
    """
    part = CPU_PART if device.type == "cpu" else None
    for network in (model.guide, model.generator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        check_compiler(device)
        encode, decode = torch.compile(model.generator.encode), torch.compile(model.generator.decode)
        return InferenceNetworks(torch.compile(model.guide), encode, decode, part)
    return InferenceNetworks(model.guide, model.generator.encode, model.generator.decode, part)
