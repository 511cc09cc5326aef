"""Communication between the processes of a process group, which share every batch.

A step of n processes computes the same as one process with the whole batch. For this, logits, styles and statistics
are gathered or summed, and every process computes the loss of the whole batch. The graph of a process contains only
its own pictures, so the sum of the gradients over all processes is the gradient of the whole batch. With one process,
every function here returns its input. The group is formed in process_group.py.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

_without_group = False


def world_size() -> int:
    """The number of processes that train together."""
    joined = not _without_group and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if joined else 1


@contextmanager
def without_process_group() -> Iterator[None]:
    """Inside the block, this process acts as if it were the only one.

    Use it for work that only some ranks do: a collective operation would wait for the other ranks for ever.
    """
    global _without_group
    before, _without_group = _without_group, True
    try:
        yield
    finally:
        _without_group = before


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_rank_zero() -> bool:
    """Whether this is rank 0, the only process that writes files and prints."""
    return rank() == 0


def rows_of_rank(size: int) -> slice:
    """The rows of this rank in a batch of `size`, a multiple of `world_size`. Ranks take consecutive rows."""
    each = size // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def all_gather(rows: Tensor, *, same_loss: bool = True) -> Tensor:
    """Gather the rows of all processes in the order of ranks: (n, ...) to (n * world size, ...). Differentiable.

    same_loss: every rank computes the same loss from the gathered rows, so the gradient of this rank's rows is
    complete here. If False, ranks compute different losses, and the gradients are summed over all ranks.
    """
    if world_size() == 1:
        return rows
    return _gather(rows, same_loss)


class _AllGather(Function):
    """`all_gather` with its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, same_loss: bool) -> Tensor:
        """The rows (b, ...) of all ranks, in their order: (B, ...)."""
        ctx.same_loss = same_loss
        gathered = [
            torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The part (b, ...) of the gradient (B, ...) for this rank's rows; summed over ranks if losses differ."""
        total = gradient if ctx.same_loss else all_reduce(gradient)
        return total[rows_of_rank(len(total))], None


_gather: Callable[[Tensor, bool], Tensor] = _AllGather.apply


def keep_out_of_compiled_code() -> None:
    """From now on, code compiled by torch.compile calls `all_gather`'s operation without compiling it.

    `torch.compiler.disable` as a decorator would import PyTorch's compiler in every process, which takes two seconds.
    """
    global _gather
    _gather = torch.compiler.disable(_AllGather.apply)


def all_reduce(x: Tensor) -> Tensor:
    """The sum of x over all processes, without a gradient."""
    if world_size() == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over all processes, with one all-reduce of all gradients as one vector."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    total = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(total)
    for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def tensor_from_rank_zero(x: Tensor) -> Tensor:
    """The values of rank 0, in a tensor of the same shape, type and device on every rank."""
    if world_size() == 1:
        return x
    value = x.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(value, src=0)
    return value


@torch.no_grad()
def copy_from_rank_zero(networks: Iterable[nn.Module]) -> None:
    """Give the parameters and buffers of these networks the values that they have on rank 0."""
    if world_size() == 1:
        return
    for network in networks:
        for value in (*network.parameters(), *network.buffers()):
            value.copy_(tensor_from_rank_zero(value))


def largest_of_ranks(number: int) -> int:
    """The largest of the numbers that the ranks have."""
    if world_size() == 1:
        return number
    value = torch.tensor([number])  # on the CPU, so that no GPU has to be waited for
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)


def broadcast_from_rank_zero(number: int) -> int:
    """The number of rank 0, on every rank."""
    if world_size() == 1:
        return number
    value = torch.tensor([number])  # on the CPU, so that no GPU has to be waited for
    dist.broadcast(value, src=0)
    return int(value)


def texts_from_rank(texts: tuple[str, ...], source: int) -> tuple[str, ...]:
    """The texts of rank `source`, on every rank. texts: on the other ranks as many, with any content."""
    if world_size() == 1:
        return texts
    held: list[str] = list(texts)
    dist.broadcast_object_list(held, src=source, device=torch.device("cpu"))
    return tuple(held)
