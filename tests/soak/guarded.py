"""Limits for reading hostile input: time, memory, no files written elsewhere, no program started."""

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis

SECONDS = 20.0  # for one input, on a busy machine
MOST_MEMORY = 1 << 30  # all inputs together may raise the peak memory of the process by this many bytes
# Python's audit events for running other programs or code, or for network connections.
RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect"}
CHANGES = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.link": 2,
    "os.truncate": 1,
}


class BreachError(BaseException):
    """An input caused something that is forbidden. This is not an Exception, so that no `except Exception`
    hides it.
    """


class _Watch:
    """The only audit hook of this process. Hooks cannot be removed, so it does nothing while no folder is set."""

    folder: Path | None = None
    installed = False

    def see(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in RUNS or (event == "subprocess.Popen" and "worker_process" not in str(arguments[1])):
            self._breach(f"{event}{arguments!r:.300}")
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._inside(event, arguments[0])
        elif event in CHANGES:
            for name in arguments[: CHANGES[event]]:
                self._inside(event, name)

    def _inside(self, event: str, name: object) -> None:
        if isinstance(name, int) or name is None:
            return
        path = os.path.realpath(os.fsdecode(name))  # type: ignore[arg-type]
        if not path.startswith(str(self.folder)) and path != os.devnull and "__pycache__" not in path:
            self._breach(f"{event} of {path!r:.300}")

    def _breach(self, what: str) -> None:
        folder, self.folder = self.folder, None
        try:
            raise BreachError(what)
        finally:
            self.folder = folder


_watch = _Watch()


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Inside the block, files may be written only in `folder`, including temporary ones, and no program may start."""
    if not _watch.installed:
        sys.addaudithook(_watch.see)
        _watch.installed = True
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _watch.folder = folder.resolve()
    try:
        yield
    finally:
        _watch.folder, tempfile.tempdir = None, before
    more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest)
    assert more < MOST_MEMORY, f"{more / 2**20:.0f} MiB more memory were taken"


@contextmanager
def unguarded() -> Iterator[None]:
    """Inside the block, the test itself may write anywhere."""
    folder, _watch.folder = _watch.folder, None
    try:
        yield
    finally:
        _watch.folder = folder


@contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raises BreachError if the block takes longer. Works in the main thread only."""

    def late(number, frame):
        raise BreachError(f"it had not ended after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def examples(usual: int) -> hypothesis.settings:
    """Settings of hypothesis for hostile input: `usual` examples, or TUNIT_HOSTILE_INPUTS.

    Fewer than 1,000 are the same each time.
    """
    inputs = int(os.environ.get("TUNIT_HOSTILE_INPUTS", usual))
    return hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        derandomize=inputs < 1000,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
