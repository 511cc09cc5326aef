"""Worker processes that decode pictures. A file that crashes or blocks a decoder, or fills the memory, then does not
harm the training.

The processes are started as programs. They are not forked, because a fork of a process that runs threads or holds a
GPU may hang, and not spawned by multiprocessing, because that imports the caller's script again. Each ends by itself
after some time without work, and at once when the process that started it has ended. What runs inside them is in
worker_process.py.
"""

import atexit
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar, cast

from tunit.data.decoding.bounds import ALONE_BYTES, ALONE_PIXELS
from tunit.data.decoding.worker_process import IDLE, SLOW, current_folder, receive
from tunit.errors import reason_of
from tunit.printing import remark

Item = TypeVar("Item")
Result = TypeVar("Result")

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tunit.data.decoding.worker_process import serve; serve()"
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
    """`function(item)`, computed in a worker process. Threads may call it at the same time; each call has its own
    worker.

    function, item and result are pickled. If no process can be started, the function runs in this process, where
    nothing limits it (see `is_worker`).
    Raises what the function raises, and WorkerLostError if its process has ended.
    """
    while True:
        worker = _take()
        if worker is None:
            return function(item)
        try:
            done, answer = worker.call(function, item)
        except WorkerLostError:
            if worker.close_and_wait() == IDLE:  # it had just ended by itself, because it had no work
                continue
            raise
        with _lock:
            _idle.setdefault(os.getpid(), []).append(worker)
        if done:
            return cast(Result, answer)
        raise answer


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
        # Pickled first, because an error here is not the worker's fault.
        request = pickle.dumps((current_folder(), function, item))
        try:
            requests.write(request)
            requests.flush()
            return cast(tuple[bool, Any], receive(answers))
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self.close_and_wait()
            slow = code == SLOW or (sys.platform != "win32" and code == -signal.SIGPROF)
            raise WorkerLostError(slow=slow) from None
        except BaseException:  # after Ctrl-C, the worker's late answer must not be taken for the next one
            self._process.kill()
            self.close_and_wait()
            raise

    def is_alive(self) -> bool:
        """Whether the process still runs, whether it has work or not."""
        return self._process.poll() is None

    def close_and_wait(self) -> int:
        """Close the pipes and wait until the process has ended; returns its exit code."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(IO[bytes], pipe).close()
        return self._process.wait()


_lock = threading.Lock()
_idle: dict[
    int, list[_Worker]
] = {}  # key: the process that started them; a forked process must not use its parent's
_startable = True


def _take() -> _Worker | None:
    """A worker that is idle or new; None if none can be started."""
    global _startable
    with _lock:
        workers = _idle.get(os.getpid(), [])
        while workers:
            worker = workers.pop()
            if worker.is_alive():
                return worker
            worker.close_and_wait()
    if not _startable:
        return None
    why = "this Python has no executable"
    try:
        if sys.executable and not getattr(sys, "frozen", False):
            return _Worker()
    except OSError as error:
        why = reason_of(error)
    except WorkerLostError:
        why = "it ends immediately"
    with _lock:
        first, _startable = _startable, False
    if first:
        remark(
            f"no worker process can be started ({why}), so pictures are decoded in this process without limits of "
            f"time and memory; therefore pictures of more than {ALONE_PIXELS:,} pixels or {ALONE_BYTES:,} bytes are "
            "left out"
        )
    return None


def close_workers() -> None:
    """End all idle workers, which also closes the files that they keep open."""
    with _lock:
        workers = _idle.pop(os.getpid(), [])
    for worker in workers:
        worker.close_and_wait()


atexit.register(close_workers)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT in this thread during the block, and for ever in any process started in the block.

    Ctrl-C is sent to all processes of the terminal, but only the parent should handle it.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
