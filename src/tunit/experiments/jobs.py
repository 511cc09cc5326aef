"""Work in several new processes, which begin nothing further once one of them, or their parent, is told to stop."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from tunit.errors import RunError, StopNow
from tunit.training.interrupt import Interrupted, StopSignals

T = TypeVar("T")
_stopping: Event | None = None  # in a worker: set as soon as no further task may begin


@dataclass(frozen=True)
class _Stopped:
    """What a worker returns for a task that a signal ended. Errors that hold a signal cannot be pickled."""

    number: int


def in_processes(work: Callable[..., T], tasks: Sequence[tuple[Any, ...]], jobs: int) -> list[T]:
    """work(*task) for every task, in `jobs` new processes.

    Raises StopNow after a signal to this process or to a worker, when all workers have ended; RunError if a worker
    ends unexpectedly.
    """
    # New processes are started with "spawn": a fork of a process with torch's threads may hang.
    context = get_context("spawn")
    stopping = context.Event()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(stopping,))
    with StopSignals(at_once=True):
        try:
            waiting = [pool.submit(_carried_out, work, task) for task in tasks]
            return [_result(task.result()) for task in waiting]
        except BrokenProcessPool:
            raise RunError(
                "one of the processes that --jobs started was ended from outside, perhaps for lack of memory: call "
                "again, with fewer --jobs"
            ) from None
        except StopNow as stop:
            if stop.number == signal.SIGTERM:  # Ctrl-C reaches the workers by itself
                for worker in active_children():
                    worker.terminate()
            raise
        finally:
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(stopping: Event) -> None:
    """Prepare a worker. Between tasks signals are ignored: a worker that died of one would end all others, too."""
    global _stopping
    _stopping = stopping
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _carried_out(work: Callable[..., T], task: tuple[Any, ...]) -> T | _Stopped:
    """In a worker: carry out a task, unless the work has been stopped.

    The pool hands out some tasks in advance, which the parent cannot take back; so the worker asks, too.
    """
    assert _stopping is not None
    if _stopping.is_set():
        return _Stopped(signal.SIGTERM)
    try:
        with StopSignals(at_once=True):
            return work(*task)
    except Interrupted as stop:
        number = stop.exit_code - 128
    except StopNow as stop:
        number = stop.number
    _stopping.set()
    return _Stopped(number)


def _result(found: T | _Stopped) -> T:
    if isinstance(found, _Stopped):
        raise StopNow(found.number)
    return found
