"""Several processes of one machine that train one run: how they begin, meet and end.

The process that asks for them is the first. The others read the run's folder, as it stands when they begin, and take
the same steps, each with its share of every batch and, where there are GPUs, with a GPU of its own.
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
from tunit.data.pack import open_packed
from tunit.errors import ConfigError, TrainingError, TunitError
from tunit.methods.registry import method_of
from tunit.printing import remark
from tunit.training.interrupt import Interrupted
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import train

# The first may evaluate for hours while the others wait; whether they live is watched otherwise.
PATIENCE = timedelta(days=7)
SECONDS_TO_NOTICE = 20  # for the first to meet an exchange that fails, before it is ended
# What all meet alike the first says, and ends the others, within this time.
SECONDS_TO_SPEAK = 3


def check_processes(config: Config) -> None:
    """Raises ConfigError where the processes of a resolved config cannot train together."""
    number = config.run.processes
    if number == 1:
        return
    if not method_of(config).processes:
        raise ConfigError(
            f"processes is {number}, but method '{config.method.method}' trains in one: set --processes 1"
        )
    if config.run.compile:
        raise ConfigError(
            f"processes is {number}, but compiled networks train in one: leave out --compile, or set --processes 1"
        )
    for name in ("batch_size", "guide_only_batch_size"):
        size = getattr(config.optimisers, name)
        if size % number:
            raise ConfigError(
                f"{name} is {size}, which {number} processes cannot share evenly: take a multiple of {number}"
            )
    device = torch.device(config.run.device)
    if device.type == "cuda" and (device.index is not None or torch.cuda.device_count() < number):
        raise ConfigError(
            f"processes is {number}, but torch sees {torch.cuda.device_count()} GPUs for device "
            f"{config.run.device!r}: take --device cuda and no more processes than GPUs"
        )


@contextmanager
def company(config: Config, run: RunFolder, *, resume: bool = False) -> Iterator[None]:
    """While entered, the other processes of the config are there, each in `train`; they end when it has ended.

    Raises TrainingError where one of them ends early.
    """
    number = config.run.processes
    if number == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        meeting = Path(scratch) / "meeting"
        others: list[BaseProcess] = [
            context.Process(target=_accompany, args=(rank, number, meeting, run.path, resume), daemon=True)
            for rank in range(1, number)
        ]
        for process in others:
            process.start()
        ended = threading.Event()
        threading.Thread(target=watch, args=(others, run, ended), daemon=True).start()
        try:
            with meeting_of(0, number, meeting, torch.device(config.run.device)):
                yield
            for process in others:
                process.join(SECONDS_TO_NOTICE)
        except (RuntimeError, OSError) as error:
            early = _ended_early(others, SECONDS_TO_NOTICE / 4)
            if early is None:
                raise
            raise TrainingError(_how_to_go_on(early, others, run)) from error
        finally:
            ended.set()
            for process in others:
                process.kill()
                process.join()


@contextmanager
def meeting_of(rank: int, number: int, meeting: Path, device: torch.device) -> Iterator[None]:
    """While entered, this process is one of `number` that `torch.distributed` connects.

    meeting: a file by which they find each other, not there yet. device: of which kind each has one.
    """
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's name may lead nowhere
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=number,
        timeout=PATIENCE,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _accompany(rank: int, number: int, meeting: Path, folder: Path, resume: bool) -> None:
    """What another process than the first does."""
    first = multiprocessing.parent_process()
    assert first is not None
    threading.Thread(target=_end_with, args=(first,), daemon=True).start()
    # The first says when all stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = RunFolder(folder)
    config = run.read_config()
    try:
        with meeting_of(rank, number, meeting, torch.device(config.run.device)):
            train(config, run, open_packed(run.data), resume=resume, quiet=True)
    except Interrupted:
        return
    except (TunitError, RuntimeError, OSError) as error:
        time.sleep(SECONDS_TO_SPEAK)
        remark(f"process {rank + 1} of {number}: {error}")
        sys.exit(1)


def _end_with(first: BaseProcess) -> None:
    first.join()
    os._exit(1)


def watch(others: list[BaseProcess], run: RunFolder, ended: threading.Event) -> None:
    """End this process where another has ended early and an exchange waits for it for ever."""
    while not ended.wait(1):
        early = _ended_early(others)
        if early is not None and not ended.wait(SECONDS_TO_NOTICE):
            remark(_how_to_go_on(early, others, run))
            os._exit(2)


def _ended_early(others: list[BaseProcess], seconds: float = 0.0) -> BaseProcess | None:
    """The first of the others that has failed, or does within so many seconds."""
    wait([process.sentinel for process in others], timeout=seconds)
    return next((process for process in others if process.exitcode), None)


def _how_to_go_on(early: BaseProcess, others: list[BaseProcess], run: RunFolder) -> str:
    return (
        f"process {others.index(early) + 2} of {len(others) + 1} ended early (exit code {early.exitcode}): "
        f"go on from the last checkpoint with `tunit train --resume {run.path}`"
    )
