"""Pictures are decoded in processes of their own, so that one which crashes a decoder, keeps it busy for ever or
swallows memory costs itself alone.

The processes are started as programs, not forked (a fork of a process that runs threads or holds a GPU may hang)
nor spawned by multiprocessing (which imports the caller's own script anew). Each ends by itself when it has had
nothing to do for a while, and at once when the process that started it is gone.
"""

import atexit
import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from tunit.data.bounds import ALONE_BYTES, ALONE_PIXELS
from tunit.printing import remark

Item = TypeVar("Item")
Result = TypeVar("Result")

_IDLE_SECONDS = 30.0
_IDLE, _LOST, _SLOW = 3, 4, 5  # exit codes: nothing to do, an unreadable request, out of time
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tunit.data.workers import serve; serve()"
)


class WorkerLostError(Exception):
    """A worker process ended before it gave a result. `slow`: its time limit was reached."""

    def __init__(self, *, slow: bool) -> None:
        super().__init__(slow)
        self.slow = slow


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_worker(function: Callable[[Item], Result], item: Item) -> Result:
    """`function(item)`, computed in a worker process; any thread may call, each has a worker for its call.

    function, item and result are pickled. Where no process can be started, it is computed in this one, where the
    function must take care of itself (`is_worker`).
    Raises what the function raises, and WorkerLostError where it ended its process.
    """
    while True:
        worker = _take()
        if worker is None:
            return function(item)
        try:
            done, answer = worker.call(function, item)
        except WorkerLostError:
            if worker.ended() == _IDLE:  # just when it was taken
                continue
            raise
        with _lock:
            _idle.setdefault(os.getpid(), []).append(worker)
        if done:
            return cast(Result, answer)
        raise answer


@contextlib.contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """In a worker process: what runs inside has so many seconds of CPU time, and bytes of memory.

    Beyond the time the process ends; beyond the memory MemoryError is raised (on Linux). In any other process
    nothing is bounded.
    """
    if _base_memory is None:
        yield
        return
    with _limited_memory(_base_memory + memory), _limited_time(seconds):
        yield


def is_worker() -> bool:
    """Whether this is a worker process, where `bounded` holds."""
    return _base_memory is not None


# In the process that wants something done


class _Worker:
    """One worker process, and the pipes to it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _START, json.dumps(sys.path)]
        with _interrupts_held():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self.call(abs, 0)

    def call(self, function: Callable[[Any], Any], item: Any) -> tuple[bool, Any]:
        """(True, the result) or (False, the exception that the function raised). Raises WorkerLostError."""
        requests, answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        # Pickled first: an error here is not the worker's fault.
        request = pickle.dumps((_folder(), function, item))
        try:
            requests.write(request)
            requests.flush()
            return cast(tuple[bool, Any], pickle.load(answers))  # noqa: S301 (our own process)
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self.ended()
            slow = code == _SLOW or (sys.platform != "win32" and code == -signal.SIGPROF)
            raise WorkerLostError(slow=slow) from None
        except BaseException:  # Ctrl-C: what the worker still answers would be taken for the next answer
            self._process.kill()
            self.ended()
            raise

    def is_idle(self) -> bool:
        return self._process.poll() is None

    def ended(self) -> int:
        """Wait for the end that was told or met; the exit code."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(IO[bytes], pipe).close()
        return self._process.wait()


def _folder() -> str | None:
    """The present folder, which relative paths begin at; None where it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109 (as text)
    except OSError:
        return None


_lock = threading.Lock()
_idle: dict[int, list[_Worker]] = {}  # by the process that started them, for a fork inherits this table
_startable = True


def _take() -> _Worker | None:
    """A worker that has nothing to do; None where none can be started."""
    global _startable
    with _lock:
        workers = _idle.get(os.getpid(), [])
        while workers:
            worker = workers.pop()
            if worker.is_idle():
                return worker
            worker.ended()
    if not _startable:
        return None
    why = "this Python is no program of its own"
    try:
        if sys.executable and not getattr(sys, "frozen", False):
            return _Worker()
    except OSError as error:
        why = error.strerror or str(error)
    except WorkerLostError:
        why = "it ends at once"
    with _lock:
        first, _startable = _startable, False
    if first:
        remark(
            f"no worker process can be started ({why}): pictures are decoded in this one, where nothing else "
            "bounds the time and memory of a damaged one, but none of more than "
            f"{ALONE_PIXELS:,} pixels or {ALONE_BYTES:,} bytes"
        )
    return None


def close_workers() -> None:
    """End the workers that have nothing to do, with the files that they keep open."""
    with _lock:
        workers = _idle.pop(os.getpid(), [])
    for worker in workers:
        worker.ended()


atexit.register(close_workers)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back from this thread, and so for good from a process that it starts meanwhile.

    Ctrl-C reaches the whole group of processes, but it is for the parent to handle.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the worker process

_Request = tuple[
    str | None, Callable[[Any], Any], Any
]  # the present folder, a function, what it is called with
_base_memory: int | None = None  # bytes that the process takes before any work; None in any other process


def serve() -> None:
    """Answer the requests that come in by standard input, until there are no more."""
    global _base_memory
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come among the answers
    _base_memory = _data_bytes()
    requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    while True:
        try:
            folder, function, item = requests.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            os._exit(_IDLE)
        if folder != _folder():
            with contextlib.suppress(OSError, TypeError):
                os.chdir(folder)  # type: ignore[arg-type]
        answer: tuple[bool, Any]
        try:
            answer = True, function(item)
        except Exception as error:  # it is raised again in the process that asked
            # Its frames would keep what was being read, half a gigabyte perhaps, while the next is read.
            error.__traceback__ = error.__context__ = None
            answer = False, error
        pickle.dump(answer, answers)
        answers.flush()
        del answer


def _receive(requests: "queue.SimpleQueue[_Request]") -> None:
    """Queue what comes in. At the end of it, which a dead parent brings about too, the process ends at once."""
    code = _LOST
    try:
        while True:
            requests.put(pickle.load(sys.stdin.buffer))  # noqa: S301 (our own parent)
    except EOFError:
        code = 0
    finally:
        os._exit(code)


def _data_bytes() -> int:
    """The private memory of this process, as RLIMIT_DATA counts it; 0 where the system does not say."""
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
    """By a signal that ends the process whatever code it is in; on Windows by a thread, in real time."""
    if sys.platform == "win32":
        timer = threading.Timer(seconds, os._exit, (_SLOW,))
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


__all__ = ["WorkerLostError", "bounded", "close_workers", "in_worker", "is_worker", "serve", "usable_cores"]
