"""Several processes of one machine that train one run: how they start, form a process group, and end.

The process that starts the workers is rank 0. The worker processes read config and pictures from the run's folder and
take the same steps, each with its part of every batch and, where there are GPUs, on a GPU of its own.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist

from tunit.config import Config
from tunit.data.packed import open_packed
from tunit.errors import ConfigError, TrainingError, TunitError
from tunit.methods.registry import method_of
from tunit.printing import remark
from tunit.training.interrupt import Interrupted
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import train

# Rank 0 may evaluate for hours while the workers wait in a collective operation; `exit_when_worker_fails` watches
# them.
COLLECTIVE_TIMEOUT = timedelta(days=7)
# Seconds that rank 0 has, once a worker has failed, to get an error from its own collective operation.
GRACE_SECONDS = 20
# Seconds that a worker waits before it prints an error: one that all processes meet is printed by rank 0, which then
# kills the workers.
REPORT_DELAY = 3


def check_processes(config: Config) -> None:
    """Raises ConfigError where a resolved config asks for several processes but cannot use them."""
    number = config.run.processes
    if number == 1:
        return
    if not method_of(config).processes:
        raise ConfigError(
            f"processes is {number}, but method '{config.method.method}' supports only one: set --processes 1"
        )
    if config.run.compile:
        raise ConfigError(
            f"processes is {number}, but compile supports only one: set --compile false, or --processes 1"
        )
    for name in ("batch_size", "guide_only_batch_size"):
        size = getattr(config.optimisers, name)
        if size % number:
            raise ConfigError(
                f"{name} is {size}, which {number} processes cannot share evenly: set --{name.replace('_', '-')} to "
                f"a multiple of {number}"
            )
    device = torch.device(config.run.device)
    if device.type == "cuda" and (device.index is not None or torch.cuda.device_count() < number):
        raise ConfigError(
            f"processes is {number}, but torch sees {torch.cuda.device_count()} GPUs for device "
            f"{config.run.device!r}: set --device cuda, and --processes to at most the number of GPUs"
        )


@contextmanager
def worker_processes(config: Config, run: RunFolder, *, resume: bool = False) -> Iterator[None]:
    """Inside the block this is rank 0 of a process group, and worker processes run `train`.

    With one process it does nothing. Workers still alive at the end are killed. Raises TrainingError where one fails.
    """
    number = config.run.processes
    if number == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        rendezvous = Path(scratch) / "rendezvous"
        workers: list[BaseProcess] = [
            context.Process(
                target=_run_worker, args=(rank, number, rendezvous, run.path, resume), daemon=True
            )
            for rank in range(1, number)
        ]
        for process in workers:
            process.start()
        ended = threading.Event()
        threading.Thread(target=exit_when_worker_fails, args=(workers, run, ended), daemon=True).start()
        try:
            with process_group(0, number, rendezvous, torch.device(config.run.device)):
                yield
            for process in workers:
                process.join(GRACE_SECONDS)
        except (RuntimeError, OSError) as error:
            failed = _failed_worker(workers, GRACE_SECONDS / 4)
            if failed is None:
                raise
            raise TrainingError(_failure_message(failed, workers, run)) from error
        finally:
            ended.set()
            for process in workers:
                process.kill()
                process.join()


@contextmanager
def process_group(rank: int, number: int, rendezvous: Path, device: torch.device) -> Iterator[None]:
    """Inside the block this process is a member of a process group of `number` processes.

    rendezvous: a file, not there yet, by which they find each other. device: of type cpu, or cuda for a GPU per rank.
    """
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name may not resolve
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=rendezvous.as_uri(),
        rank=rank,
        world_size=number,
        timeout=COLLECTIVE_TIMEOUT,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _run_worker(rank: int, number: int, rendezvous: Path, folder: Path, resume: bool) -> None:
    """The main function of a worker process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    # Rank 0 handles the signals, and tells the workers when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = RunFolder(folder)
    config = run.read_config()
    try:
        with process_group(rank, number, rendezvous, torch.device(config.run.device)):
            train(config, run, open_packed(run.data), resume=resume, quiet=True)
    except Interrupted:
        return
    except (TunitError, RuntimeError, OSError) as error:
        time.sleep(REPORT_DELAY)
        remark(f"process {rank + 1} of {number}: {error}")
        sys.exit(1)


def _exit_with_parent(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def exit_when_worker_fails(workers: list[BaseProcess], run: RunFolder, ended: threading.Event) -> None:
    """End this process if a worker has failed, since a collective operation may wait for it for ever.

    Runs in a thread of rank 0 until `ended` is set. An error that rank 0 gets by itself comes first."""
    while not ended.wait(1):
        failed = _failed_worker(workers)
        if failed is not None and not ended.wait(GRACE_SECONDS):
            remark(_failure_message(failed, workers, run))
            os._exit(2)


def _failed_worker(workers: list[BaseProcess], seconds: float = 0.0) -> BaseProcess | None:
    """A worker that has failed, or fails within so many seconds; None if none has."""
    wait([process.sentinel for process in workers], timeout=seconds)
    return next((process for process in workers if process.exitcode), None)


def _failure_message(failed: BaseProcess, workers: list[BaseProcess], run: RunFolder) -> str:
    return (
        f"process {workers.index(failed) + 2} of {len(workers) + 1} ended early (exit code {failed.exitcode}): "
        f"go on from the last checkpoint with `tunit train --resume {run.path}`"
    )
