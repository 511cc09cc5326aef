"""E and G prepared for inference on a device, and how many pictures they compute at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tunit.machine import check_compiler
from tunit.methods.model_file import Model
from tunit.networks.guide import Guidance
from tunit.networks.upsampling import UpsamplingConv2d

# How many pictures a CPU computes together. With fewer, transforming the kernels costs more than it saves
# (networks.winograd).
CPU_PART = 16
# How many styles of one picture a CPU computes together. With two, the kernels are transformed half as often; more
# do not fit into its caches.
CPU_STYLES, GPU_STYLES = 2, 8
Items = TypeVar("Items", Tensor, Sequence[Any])


@dataclass(frozen=True)
class InferenceNetworks:
    """E and G for inference."""

    guide: Callable[[Tensor], Guidance]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor]
    part: int | None  # how many pictures are computed together; None for any number
    styles: int  # how many styles of one picture are computed together

    def split(self, batch: Items) -> Iterator[Items]:
        """Split a batch into the parts that are computed together."""
        part = self.part or len(batch)
        return (batch[i : i + part] for i in range(0, len(batch), part))


def networks_for(model: Model, device: torch.device, *, compiled: bool) -> InferenceNetworks:
    """The networks of `model`, prepared for the device where they run.

    Convolutions are fastest in the channels-last memory format, and networks.winograd needs it on a CPU; so `model`
    itself is converted to it. Raises ConfigError if the networks should be compiled but cannot be.
    """
    part, styles = (CPU_PART, CPU_STYLES) if device.type == "cpu" else (None, GPU_STYLES)
    for network in (model.guide, model.generator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        check_compiler(device)
        encode, decode = torch.compile(model.generator.encode), torch.compile(model.generator.decode)
        return InferenceNetworks(torch.compile(model.guide), encode, decode, part, styles=1)
    for module in model.generator.modules():
        if isinstance(module, UpsamplingConv2d):
            module.keep_kernels()
    return InferenceNetworks(model.guide, model.generator.encode, model.generator.decode, part, styles)
