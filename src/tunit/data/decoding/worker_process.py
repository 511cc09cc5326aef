"""The code of a worker process: it answers the requests of workers.py, within limits of time and memory."""

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

_IDLE_SECONDS = 30.0
IDLE, LOST, SLOW = 3, 4, 5  # exit codes: no work for some time, an unreadable request, time limit reached

# The current folder, a function, and its argument.
_Request = tuple[str | None, Callable[[Any], Any], Any]
_base_memory: int | None = None  # bytes that the process takes before its work; None in any other process


@contextlib.contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """Limit the CPU time (seconds) and the memory (bytes) of the block, if this is a worker process.

    If the time is used up, the process ends; if it needs more memory, MemoryError is raised (on Linux). In any other
    process there are no limits.
    """
    if _base_memory is None:
        yield
        return
    with _limited_memory(_base_memory + memory), _limited_time(seconds):
        yield


def is_worker() -> bool:
    """Whether this is a worker process, where `bounded` sets limits."""
    return _base_memory is not None


def current_folder() -> str | None:
    """The current folder, where relative paths begin; None if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 (as text)
    except OSError:
        return None


def receive(pipe: IO[bytes]) -> Any:
    """The next object from the process at the other end, which is our own: no pickle of a file is read here."""
    return pickle.load(pipe)  # noqa: S301


def serve() -> None:
    """Answer the requests from standard input until there are no more."""
    global _base_memory
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that a library prints must not get between the answers
    modules = 0
    requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_queue_requests, args=(requests,), daemon=True).start()
    while True:
        try:
            folder, function, item = requests.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            os._exit(IDLE)
        if len(sys.modules) > modules:
            # Modules that a request imports, when it is received, do not count as memory of its picture.
            modules, _base_memory = len(sys.modules), _data_bytes()
        if folder != current_folder():
            with contextlib.suppress(OSError, TypeError):
                os.chdir(folder)  # type: ignore[arg-type]
        answer: tuple[bool, Any]
        try:
            answer = True, function(item)
        except Exception as error:  # it is raised again in the process that asked
            # Drop its traceback: it would keep the data (perhaps half a gigabyte) during the next picture.
            error.__traceback__ = error.__context__ = None
            answer = False, error
        pickle.dump(answer, answers)
        answers.flush()
        del answer


def _queue_requests(requests: "queue.SimpleQueue[_Request]") -> None:
    """Queue incoming requests. If the parent ends, or sends something unreadable, this process ends at once."""
    code = LOST
    try:
        while True:
            requests.put(receive(sys.stdin.buffer))
    except EOFError:
        code = 0
    finally:
        os._exit(code)


def _data_bytes() -> int:
    """The private memory of this process, as RLIMIT_DATA counts it; 0 if the system does not report it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmData:")).split()[1])
    return 0


@contextlib.contextmanager
def _limited_memory(limit: int) -> Iterator[None]:
    if sys.platform != "linux" or not _base_memory:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """A signal ends the process, whatever code it runs. On Windows a thread ends it, and real time counts."""
    if sys.platform == "win32":
        timer = threading.Timer(seconds, os._exit, (SLOW,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
