"""Start several processes on one machine by running torchrun inside this process. For several machines, users call
torchrun themselves.
"""

import logging
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from tunit.config import Config
from tunit.config.run_file import write_run_config
from tunit.distributed.gpus import sees_only_its_own
from tunit.distributed.launcher import LAUNCHED, job, processes_here, ranks_of_environment
from tunit.errors import ConfigError, EndedInOtherProcesses, TrainingError
from tunit.methods.registry import PLUGINS, method_of, modules_of_methods
from tunit.printing import command

PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"  # environment variable that torchrun reads
# Seconds: enough for a step and a checkpoint. If one process dies, the others notice it with gloo, and end within a
# minute. With NCCL, which was never tried, they may not notice it: then they wait in vain, and --max-restarts begins
# again only after this time.
PATIENCE_SECONDS = 300
SAID = (2, 130, 143)  # with these exit codes, a rank has printed why it ends


def with_ranks(config: Config) -> Config:
    """The config. If a launcher has started the processes, `processes` is set to their number. It may be 1: the only
    process that remains after machines were lost.
    """
    ranks = ranks_of_environment()
    return config if ranks == 1 and not job() else config.with_overrides({"processes": ranks})


def must_launch(config: Config) -> bool:
    """Whether the config asks for several processes, and nothing has started them yet."""
    return config.run.processes > 1 and ranks_of_environment() == 1


def check_processes(config: Config, *, resumes: bool = False) -> None:
    """Raises ConfigError where a config asks for several processes but cannot use them. resumes: a run, which keeps
    its batch sizes.
    """
    number = config.run.processes
    if number == 1:
        return
    if not dist.is_available():
        raise ConfigError(
            f"processes is {number}, but this PyTorch was built without torch.distributed: set --processes 1"
        )
    if not method_of(config).processes:
        raise ConfigError(
            f"processes is {number}, but method '{config.method.method}' supports only one: set --processes 1"
        )
    sizes = {name: getattr(config.optimisers, name) for name in ("batch_size", "guide_only_batch_size")}
    for name, size in sizes.items():
        if size % number:
            remedy = f"set --{name.replace('_', '-')} to a multiple of {number}"
            if resumes:
                common = math.gcd(*sizes.values())
                remedy = f"set --processes {max(n for n in range(1, number) if common % n == 0)}"
            raise ConfigError(f"{name} is {size}, which {number} processes cannot share evenly: {remedy}")
    device, here = torch.device(config.run.device), processes_here(number)
    too_few = torch.cuda.device_count() < here and not sees_only_its_own()
    if device.type == "cuda" and (device.index is not None or too_few):
        raise ConfigError(
            f"processes is {here} on this machine, but torch sees {torch.cuda.device_count()} GPUs for device "
            f"{config.run.device!r}: set --device cuda, and --processes to at most the number of GPUs"
        )


def launch(words: Sequence[str], number: int, out: Path, max_restarts: int = 0) -> None:
    """Run `tunit WORDS` in `number` processes that train together. out: the run that they train.

    max_restarts: if a process dies, all are started again from the last checkpoint, at most this many times. Raises
    EndedInOtherProcesses with the exit code of a process that has printed why it ended, TrainingError if one died
    without a message.
    """
    how = ["--standalone", f"--nproc-per-node={number}", f"--max-restarts={max_restarts}"]
    how += ["--local-addr=localhost", "-m", "tunit"]
    # One thread for each process, until it sets its own number of threads.
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with environment({LAUNCHED: "1"} | threads | _patience() | _of_methods()), silent_logs():
        run_torchrun(
            [*how, *words],
            f"go on from the last checkpoint with `{command('train', '--resume', out)}`, "
            "or let --max-restarts N do so",
            f" of {number}",
        )


def run_torchrun(words: Sequence[str], remedy: str, of: str = "") -> None:
    """Run torchrun with these words, within this process. Raises what `launch` raises.

    remedy: advice for the error message if a process dies. of: for that message, the number of
    processes in the form " of 8".
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        with signals_as_before():
            torchrun.run(torchrun.parse_args(list(words)))
    except SignalException as stop:
        raise EndedInOtherProcesses(128 + stop.sigval) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in SAID:
            raise EndedInOtherProcesses(failure.exitcode) from None
        raise TrainingError(
            f"process {rank + 1}{of} ended early (exit code {failure.exitcode}): {remedy}"
        ) from None


def launch_config(words: Sequence[str], config: Config, out: Path, max_restarts: int = 0) -> None:
    """As `launch`, from Python: the config is written to a file, whose path replaces PRESET in `words`."""
    with tempfile.TemporaryDirectory() as scratch:
        preset = Path(scratch) / "config.toml"
        # As the config of a run: then none of its settings counts as given by the user, and paths may have any bytes.
        write_run_config(preset, config)
        given = [str(preset) if word == "PRESET" else word for word in words]
        launch([*given, "--quiet"], config.run.processes, out, max_restarts)


def _patience() -> dict[str, str]:
    """The environment variable that says how many seconds after a signal torchrun kills what still runs.

    Its own 30 s are too few: after Ctrl-C the processes finish a step, may measure the model, and save. What the user
    has set is kept. An older torchrun does not read the variable.
    """
    return {PATIENCE: os.environ.get(PATIENCE) or str(PATIENCE_SECONDS)}


def _of_methods() -> dict[str, str]:
    """Environment variables that let new processes load the same methods as this one."""
    modules = modules_of_methods()
    if "__main__" in modules:
        raise ConfigError(
            "a method or clustering objective is registered in the program that was started, which other processes "
            "do not import: put it into a module of its own, or set --processes 1"
        )
    if not modules:
        return {}
    given = os.environ.get(PLUGINS, "")
    return {PLUGINS: ",".join(dict.fromkeys([*filter(None, given.split(",")), *modules]))} | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path))
    }


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Inside the block the environment has these values, which new processes get."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def signals_as_before() -> Iterator[None]:
    """After the block signals are handled as before. torchrun leaves its own handlers, which raise an error of its
    own: a program that has trained in several processes would then not get KeyboardInterrupt for Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: a handler that Python has not set.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def silent_logs() -> Iterator[None]:
    """Inside the block torchrun does not log failed processes: tunit reports them itself, in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
