"""Form the process group: how the processes that train together find each other, wait for rank 0, and end.

torchrun, or another launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the processes; if one
fails, it ends the others. The processes meet at a store of the launcher or of rank 0. While rank 0 works alone, the
others wait without a time limit for its entry in the store; all other waiting has a limit.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from tunit.distributed.collectives import is_rank_zero, rank, without_process_group, world_size
from tunit.distributed.gpus import is_same_gpu, take_gpu
from tunit.distributed.launcher import LAUNCHED, local_rank, ranks_of_environment
from tunit.distributed.meeting import name_of_this_start
from tunit.distributed.network_interface import choose_interface
from tunit.errors import ConfigError, EndedInOtherProcesses, TrainingError, TunitError
from tunit.failures import sentence_of
from tunit.files.partials import is_running
from tunit.printing import end_silence, remark

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# The time limit of collective operations in a step. Even the slowest step, in which networks are compiled, takes
# less.
COLLECTIVE_TIMEOUT = timedelta(minutes=20)
# Before they report an error, other ranks than 0 wait this many seconds: if rank 0 has the same error, it prints it.
RANK_ZERO_FIRST = 3
# After another process has died, this one waits this many seconds to be ended by the launcher, then ends by itself.
ENDED_WITHIN = 10
# The store's entry with the process id of rank 0.
RANK_ZERO_PROCESS = "process of rank 0"
# Seconds between two checks whether rank 0 is done.
SHORTEST_POLL, LONGEST_POLL = 0.01, 1.0
_PR_SET_PDEATHSIG = 1  # of prctl, from Linux's sys/prctl.h
# Words in the errors of gloo and NCCL if another process is gone, or does not answer.
_LOST = ("gloo", "closed by peer", "Connection reset", "NCCL", "Timed out", "timed out", "Broken pipe")


class RankZeroGoneError(RuntimeError):
    """Rank 0 has died while this rank waited for it, and its launcher knows."""


_store: "Store | None" = None
_turns = 0  # how many times rank 0 has worked alone


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside the block this process is a member of the process group, if the environment describes one.

    device: of type cpu, or cuda for a GPU per rank; raises ConfigError if there are fewer. If several ranks fail,
    only one of them (rank 0, if it is among them) raises its error; the others raise EndedInOtherProcesses.
    """
    global _store, _turns
    if _store is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        own = "this program has formed a process group, but tunit needs its own"  # for rank 0 to work alone
        raise ConfigError(f"{own}: call torch.distributed.destroy_process_group() first")
    if ranks_of_environment() == 1 or dist.is_initialized():
        yield
        return
    _end_with_launcher()
    cuda = device.type == "cuda"
    if cuda:
        take_gpu()
    if sys.platform == "linux":
        choose_interface()  # of gloo, which carries tensors of the CPU also if there are GPUs
    _turns = 0
    _store = _meet(cuda)
    try:
        yield
    except BaseException as error:
        failed = _reported_by_one_rank(error)
        # After a signal all processes end here together. After another error NCCL would wait for those that are gone.
        if not cuda or _code_of_stop(error) is not None:
            dist.destroy_process_group()
        raise failed from error
    else:
        dist.destroy_process_group()
    finally:
        _store = None


def _meet(cuda: bool) -> "Store":
    """Find the other processes, and form the group. Returns the store at which they met."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        met, number, size = next(iter(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT)))
        store = PrefixStore(name_of_this_start(met, number, size, COLLECTIVE_TIMEOUT), met)
        if number == 0:
            store.set(RANK_ZERO_PROCESS, str(os.getpid()))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=PrefixStore("group", store),
            rank=number,
            world_size=size,
            timeout=COLLECTIVE_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"the processes that train together did not find each other ({first}): check the address and port given "
            "to torchrun, and that the machines can reach each other"
        ) from error
    return store


def _code_of_stop(error: BaseException) -> int | None:
    """The exit code if a signal has stopped all ranks, which each raise this error together; None otherwise."""
    return None if isinstance(error, EndedInOtherProcesses) else getattr(error, "exit_code", None)


def _reported_by_one_rank(error: BaseException) -> BaseException:
    """The error that this rank raises instead of `error`, so that only one rank prints it."""
    if isinstance(error, EndedInOtherProcesses):
        return error
    if is_same_gpu(error):
        error = ConfigError(
            "several of the processes that train together use the same GPU: start at most as many processes on a "
            "machine as it has GPUs, show each its own, or set --device cpu"
        )
    if isinstance(error, KeyboardInterrupt):
        return (
            error if is_rank_zero() else EndedInOtherProcesses(128 + getattr(error, "number", signal.SIGINT))
        )
    if (stopped := _code_of_stop(error)) is not None:
        return error if is_rank_zero() else EndedInOtherProcesses(stopped)
    if _is_lost_peer(error):
        return _after_a_death(known=isinstance(error, RankZeroGoneError))
    correctable = isinstance(error, TunitError)
    if not correctable and (not isinstance(error, Exception) or sentence_of(error) is None):
        return error  # a bug in tunit: show every traceback
    if not _is_first_to_report():
        return EndedInOtherProcesses(2)
    if is_rank_zero():
        return error
    end_silence()
    return TrainingError(
        f"process {rank() + 1} of {world_size()}: {error if correctable else sentence_of(error)}"
    )


def _is_lost_peer(error: BaseException) -> bool:
    return isinstance(error, dist.DistError | RankZeroGoneError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)
    )


def _after_a_death(known: bool) -> EndedInOtherProcesses:
    """Print that another process is gone, unless the launcher will print it; then wait to be ended by the
    launcher, so that it sees the other process end first.

    known: the launcher has seen that already, so there is nothing to wait for.
    """
    if LAUNCHED not in os.environ and _is_first_to_report():
        end_silence()
        remark(
            "another of the processes that train together has ended or does not answer: torchrun prints which; with "
            "--max-restarts it resumes from the last checkpoint by itself, otherwise call `tunit train --resume RUN`"
        )
    if not known:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's signal ends the wait at once
        time.sleep(ENDED_WITHIN)
    return EndedInOtherProcesses(2)


def _is_first_to_report() -> bool:
    """Whether this rank is the first to report an error. Other ranks wait a little, so that rank 0 can be first."""
    try:
        assert _store is not None
        end = time.monotonic() + (0 if is_rank_zero() else RANK_ZERO_FIRST)
        while time.monotonic() < end and not _store.check(["spoken"]):
            time.sleep(0.1)
        return bool(_store.add("spoken", 1) == 1)
    except RuntimeError:  # the store's machine is gone
        return local_rank() == 0


def _end_with_launcher() -> None:
    """Let Linux send SIGTERM to this process when the launcher dies, so that it saves and ends."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def rank_zero_alone() -> Iterator[None]:
    """A context in which rank 0 works alone, as if there were no group; the others call `wait_for_rank_zero`."""
    global _turns
    if world_size() == 1 or _store is None:
        yield
        return
    _turns += 1
    try:
        with without_process_group():
            yield
    except BaseException:
        _store.set(f"turn/{_turns}", "failed")
        raise
    _store.set(f"turn/{_turns}", "done")


def wait_for_rank_zero() -> None:
    """Wait until rank 0 leaves its block of `rank_zero_alone`. Raises EndedInOtherProcesses if the block failed,
    RankZeroGoneError if rank 0 was a process of this machine and has died.
    """
    global _turns
    if world_size() == 1 or _store is None:
        return
    _turns += 1
    key, seconds, process = f"turn/{_turns}", SHORTEST_POLL, _process_of_rank_zero()
    while not _store.check([key]):  # not a blocking wait, so that Python can handle signals
        if process is not None and not is_running(process):
            raise RankZeroGoneError("rank 0 has died")
        time.sleep(seconds)
        seconds = min(1.1 * seconds, LONGEST_POLL)
    if _store.get(key) != b"done":
        raise EndedInOtherProcesses(2)


def _process_of_rank_zero() -> str | None:
    """The process ID of rank 0, if it runs on this machine.

    A dead process keeps its ID until its launcher asks the system for its exit code. So if no process has this ID any
    more, the launcher already knows that rank 0 has died.
    """
    assert _store is not None
    return _store.get(RANK_ZERO_PROCESS).decode() if rank() == local_rank() else None


def on_rank_zero(work: Callable[[], T]) -> T | None:
    """Call `work` on rank 0 while the others wait. Returns its result on rank 0, None on the others.

    If it fails, the others raise EndedInOtherProcesses.
    """
    if not is_rank_zero():
        wait_for_rank_zero()
        return None
    with rank_zero_alone():
        return work()
