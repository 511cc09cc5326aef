"""Several processes that train together, each with its share of every batch: who they are, what they exchange.

A step of n processes is the step of one with the whole batch. What a loss needs of all pictures is gathered, or
added up, here; every process then computes the whole loss, but has a graph of its own pictures alone, so that the
gradients of all processes add up to that of the whole batch. Where there is one process, all of this does nothing.

`torch.distributed` knows the processes; training.processes begins and ends them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

_is_alone = False


def world_size() -> int:
    """How many processes train together."""
    joined = not _is_alone and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if joined else 1


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process takes no notice of the others: what it tries by itself would wait for them for ever."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes, and speaks."""
    return rank() == 0


def share_of(size: int) -> slice:
    """The rows of this process in a batch of `size`, a multiple of `world_size`; those of the next rank follow."""
    each = size // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def all_gather(rows: Tensor, *, alike: bool = True) -> Tensor:
    """The rows of all processes, (n, ...) to (n * world size, ...), in the order of ranks.

    alike: every process goes on to compute the same with them, so that each keeps the gradient of its own rows. Else
    each goes on with its own part of the batch, and the gradients of all add up.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _AllGather.apply(rows, alike)  # type: ignore[no-untyped-call]
    return gathered


class _AllGather(Function):
    """(rows, alike) to the rows of all."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, alike: bool) -> Tensor:
        ctx.alike = alike
        gathered = [
            torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient if ctx.alike else all_reduce(gradient)
        return total[share_of(len(total))], None


def all_reduce(x: Tensor) -> Tensor:
    """The sum of all processes' x; it has no gradient."""
    if world_size() == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Let every process have the sum of all processes' gradients, in one exchange."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(total)
    for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def as_first(number: int) -> int:
    """The number that the first process has."""
    if world_size() == 1:
        return number
    value = torch.tensor([number])  # on the host, where nothing waits for a device
    dist.broadcast(value, src=0)
    return int(value)
