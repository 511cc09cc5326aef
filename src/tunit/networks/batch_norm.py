"""Batch normalisation over the whole batch, also when several processes share the batch.

References:
    [1] Ioffe, Szegedy. Batch normalization, ICML 2015.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from tunit.distributed.collectives import all_gather, without_process_group, world_size
from tunit.machine import uncompiled
from tunit.networks.precision import at_least_float32


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch norm [1], but in training the statistics are computed over the pictures of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Each channel of x (B, C, H, W), normalised over all pixels of the whole batch; the shape stays the same."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        high = x.to(at_least_float32(x))
        own = torch.stack([high.mean((0, 2, 3)), high.var((0, 2, 3), correction=0)])
        gathered: Tensor = all_gather(own[None], same_loss=False)
        means, variances = gathered.unbind(1)  # (world size, C) each
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        centred = high - mean[:, None, None]
        self._note(mean.detach(), variance.detach(), world_size() * x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor, values: int) -> None:
        """Update the running statistics. values: how many values per channel the mean and variance are taken over."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance * (values / (values - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


@torch.no_grad()
def take_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of a network's batch norms by those of these batches (means over batches) [1].

    batches: inputs of the network, preferably of equal size. A batch of one picture is joined to the next one, as a
    channel of a single value has no variance; if it is the last batch, it is not used. If there is no usable batch,
    nothing changes. With several processes, the statistics are those of this process's batches alone.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    was_training, fresh = network.training, True
    network.train()
    try:
        # Without a momentum PyTorch reads how many batches there were, which splits a compiled graph at each norm.
        with without_process_group(), uncompiled():
            for x in _at_least_pairs(batches):
                if fresh:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # the mean over all batches since the reset
                    fresh = False
                network(x)
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _at_least_pairs(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches; those of a single picture, such as very large ones, are joined to the next one."""
    alone: list[Tensor] = []
    for x in batches:
        joined = torch.cat([*alone, x]) if alone else x
        alone = [joined] if len(joined) < 2 else []
        if not alone:
            yield joined
