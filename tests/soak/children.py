"""Work in a forked process, and what may stop it: a signal, a full disk, a limit.

The processes are forked from one that has imported everything and has no threads, so starting one costs nothing.
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BROKEN = 99  # exit code if the work ended with a traceback
# Calls that change files; of "open", only calls for writing.
WRITING = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod",
}  # fmt: skip


@dataclass
class Child:
    """A process at work. `said`: its output."""

    pid: int
    log: Path
    began: float
    code: int | None = None  # as in a shell: 128 plus the number of the signal

    def alive(self) -> bool:
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._ended(status)
        return self.code is None

    def send(self, number: int) -> bool:
        """Send a signal; False if the process had already ended."""
        if not self.alive():
            return False
        os.kill(self.pid, number)
        return True

    def wait(self, seconds: float = 120) -> int:
        """Its exit code. A process that takes longer is killed, and AssertionError is raised."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(
                    f"it hangs: after {seconds:.0f} s it had not ended; it said: {self.said}"
                )
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def _ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.code = code if code >= 0 else 128 - code


def start(work: Callable[[], int | None], log: Path, before: Callable[[], None] | None = None) -> Child:
    """Start work in a separate process. before: called there first."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _work(work, log, before)
    return Child(pid, log, time.monotonic())


def finish(work: Callable[[], int | None], log: Path, before: Callable[[], None] | None = None) -> Child:
    """Like `start`, but waits for the end."""
    child = start(work, log, before)
    child.wait(600)
    return child


def _work(work: Callable[[], int | None], log: Path, before: Callable[[], None] | None) -> None:
    code = BROKEN
    try:
        to = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
        os.dup2(to, 1)
        os.dup2(to, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as in Python: at a limit, the write raises an error
        if before:
            before()
        code = work() or 0
    except KeyboardInterrupt:
        code = 130
    except SystemExit as ended:  # from argparse
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    try:
        sys.stderr.flush()
        sys.stdout.flush()
    finally:
        os._exit(code)


def killed_at(operation: int, folder: Path) -> Callable[[], None]:
    """Kill this process with SIGKILL just before the change number `operation` (from 1) of files in `folder`."""
    left = [operation]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in WRITING and _changes(event, arguments, folder):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def counted(folder: Path, into: Path) -> Callable[[], None]:
    """Append a byte to `into` for every change of the files in `folder`."""

    def begin() -> None:
        to = os.open(into, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in WRITING and _changes(event, arguments, folder):
                os.write(to, b".")

        sys.addaudithook(hook)

    return begin


def _changes(event: str, arguments: tuple[object, ...], folder: Path) -> bool:
    path = arguments[0]
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(str(folder)):
        return False
    flags = arguments[2] if event == "open" else os.O_WRONLY
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def files_of_at_most(size: int) -> Callable[[], None]:
    """No file can grow beyond `size` bytes: the system refuses such writes, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def memory_beyond_now(size: int) -> None:
    """This process can allocate no more than `size` bytes beyond what it has."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, now + size))


def one_sentence(child: Child) -> None:
    """Raises AssertionError unless the process ended with exit code 2 and one sentence from tunit."""
    said = child.said
    assert child.code == 2, f"exit code {child.code}: {said[-1500:]}"
    assert "Traceback" not in said, said[-1500:]
    told = [line for line in said.splitlines() if line.startswith("tunit: ")]
    assert len(told) >= 1, said[-1500:]
