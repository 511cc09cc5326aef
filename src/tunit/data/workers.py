"""Chunks of work on several processes, which outlive a crash of any of them and are gone when the job is.

Processes are spawned, not forked: a fork of a process that runs threads or holds an accelerator may hang.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TypeVar

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

_AHEAD = 4  # chunks handed out per process: enough to keep all busy, few enough to bound the memory
_stop: Event | None = None


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stopping() -> bool:
    """Whether the job was called off; a function that works on a long chunk asks now and then."""
    return _stop is not None and _stop.is_set()


def run_chunks(
    function: Callable[[Chunk], Result],
    chunks: Iterable[Chunk],
    workers: int,
    *,
    split: Callable[[Chunk], Iterable[Chunk]],
    crashed: Callable[[Chunk], Result],
) -> Generator[Result, None, None]:
    """The result of `function` for each chunk, in order unless a process crashes.

    function: picklable, as are chunks and results. With one worker it runs in this process.
    split: a chunk into the smallest chunks; after a crash, those that may be at fault are tried one by one.
    crashed: the result for a smallest chunk that crashed its process.

    Where no process can be started (as from a script without `if __name__ == "__main__":`) all runs in this
    one.
    """
    todo = deque(chunks)
    while todo:
        pool = _Pool.start(min(workers, len(todo))) if workers > 1 else None
        if pool is None:
            yield from map(function, todo)
            return
        pending: deque[tuple[Chunk, Future[Result]]] = deque()
        try:
            with pool:
                while todo or pending:
                    while todo and len(pending) < _AHEAD * workers:
                        pending.append((todo[0], pool.submit(function, todo[0])))
                        todo.popleft()
                    result = pending[0][1].result()
                    pending.popleft()
                    yield result
        except BrokenProcessPool:
            suspects = [chunk for chunk, _ in pending]
            yield from _one_by_one(function, suspects, split, crashed)


def _one_by_one(
    function: Callable[[Chunk], Result],
    suspects: Iterable[Chunk],
    split: Callable[[Chunk], Iterable[Chunk]],
    crashed: Callable[[Chunk], Result],
) -> Iterator[Result]:
    """Each smallest chunk in a process of its own making, so that a crash has one culprit."""
    smallest = deque(single for chunk in suspects for single in split(chunk))
    while smallest:
        pool = _Pool.start(1)
        if pool is None:  # processes could be started before: better stop than let the culprit crash this one
            raise BrokenProcessPool("no process can be started any more")
        try:
            with pool:
                while smallest:
                    result = pool.submit(function, smallest[0]).result()
                    smallest.popleft()
                    yield result
        except BrokenProcessPool:
            yield crashed(smallest.popleft())


class _Pool:
    """A process pool that is known to work, and whose end, by whatever cause, is quick and complete."""

    def __init__(self, executor: ProcessPoolExecutor, stop: Event) -> None:
        self._executor = executor
        self._stop = stop

    @classmethod
    def start(cls, workers: int) -> "_Pool | None":
        """A pool, or None where processes cannot be started here."""
        context = multiprocessing.get_context("spawn")
        try:
            stop = context.Event()
            executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(stop,))
        except (OSError, ImportError, NotImplementedError):  # no semaphores on this system
            return None
        pool = cls(executor, stop)
        try:
            pool.submit(abs, 0).result()
        except (
            BrokenProcessPool,
            OSError,
            AssertionError,
        ):  # the last in a daemon, which may have no children
            executor.shutdown()
            return None
        except BaseException:
            pool.__exit__()
            raise
        return pool

    def submit(self, function: Callable[[Chunk], Result], chunk: Chunk) -> Future[Result]:
        """Hand out a chunk, for which the executor may start one more process."""
        with _interrupts_held():
            return self._executor.submit(function, chunk)

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        # At a normal end nothing is left to stop; at an interrupt each process ends after its present item.
        self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back from this thread, and so for good from a process that it starts meanwhile.

    A process that is still importing when Ctrl-C reaches the whole group would print a traceback of its own.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(stop: Event) -> None:
    """Prepare a worker process: Ctrl-C is for the parent to handle, and a dead parent's workers end."""
    global _stop
    _stop = stop
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
