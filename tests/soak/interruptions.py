"""kill -9, SIGTERM, SIGINT and a full disk during each job."""

import ctypes
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from soak.children import Child, counted, files_of_at_most, killed_at, one_sentence, start
from soak.jobs import JOBS, Field, Job

Figures = dict[str, object]
WITHIN = 15.0  # seconds from a signal to the end, on a busy machine; a step takes a fiftieth
SMALLEST = 4096  # files up to this size can always be written, because the output is also a file
SAID_BY_SYSTEM = (
    "No space left",
    "File too large",
    "cannot be written",
    "os error 28",
    "os error 27",
    "bytes free",
)


class Trials:
    """Runs one job many times in new folders, each time with an interruption."""

    def __init__(self, field: Field, job: Job, scratch: Path) -> None:
        self.field, self.job, self.scratch = field, job, scratch
        self.expected = field.expected(job)
        self.number = 0
        self._operations: int | None = None
        self._seconds: float | None = None

    def folder(self) -> Path:
        self.number += 1
        folder = self.scratch / f"{self.job.name.replace(' ', '-')}-{self.number}"
        folder.mkdir(parents=True)
        self.job.prepare(folder)
        return folder

    def begin(self, folder: Path, before: Callable[[], None] | None = None) -> Child:
        # Not next to the folder, because its disk may be full.
        log = self.scratch / f"{self.job.name.replace(' ', '-')}-{self.number}.log"
        return start(lambda: self.job.work(self.field, folder), log, before)

    def undisturbed(self) -> None:
        """Run the job once: its result, its time, and how often it changes files."""
        shutil.rmtree(self.expected, ignore_errors=True)
        self.expected.mkdir(parents=True)
        self.job.prepare(self.expected)
        ticks = self.expected.with_suffix(".ticks")
        child = self.begin(self.expected, counted(self.expected, ticks))
        assert child.wait(600) == 0, child.said
        self._seconds = time.monotonic() - child.began
        self._operations = ticks.stat().st_size
        assert self._operations > 0
        self.job.check(self.field, self.expected, self.expected)

    @property
    def seconds(self) -> float:
        if self._seconds is None:
            self.undisturbed()
        assert self._seconds is not None
        return self._seconds

    @property
    def operations(self) -> int:
        if self._operations is None:
            self.undisturbed()
        assert self._operations is not None
        return self._operations

    def look(self, folder: Path) -> None:
        self.job.look(self.field, folder, self.expected)

    def go_on(self, folder: Path) -> None:
        """Start again or continue, as a user would. The result must be as without the interruption."""
        child = self.begin(folder)
        assert child.wait(600) == 0, f"going on ends with {child.code}: {child.said[-1500:]}"
        assert "Traceback" not in child.said, child.said[-1500:]
        self.job.check(self.field, folder, self.expected)
        shutil.rmtree(folder)
        child.log.unlink(missing_ok=True)


def kills(trials: Trials, times: int, rng: random.Random) -> Figures:
    """kill -9 at random moments, until `times` of them hit the job at work."""
    met = tried = 0
    while met < times:
        tried += 1
        assert tried < 6 * times + 10, f"only {met} of {tried} kills came before the end"
        folder = trials.folder()
        moment = rng.uniform(0, trials.seconds)
        child = trials.begin(folder)
        time.sleep(moment)
        child.send(signal.SIGKILL)
        code = child.wait()
        assert code in (0, 137), child.said
        met += code == 137
        trials.look(folder)
        trials.go_on(folder)
    return {"kills": met, "tried": tried, "seconds of the job": round(trials.seconds, 2)}


def kills_at_operations(trials: Trials, most: int, rng: random.Random) -> Figures:
    """kill -9 before each change of a file, or before `most` of them."""
    every = range(1, trials.operations + 1)
    chosen = every if most >= len(every) else sorted(rng.sample(every, most))
    for operation in chosen:
        folder = trials.folder()
        child = trials.begin(folder, killed_at(operation, folder))
        code = child.wait()
        assert code in (0, 137), child.said
        trials.look(folder)
        trials.go_on(folder)
    return {"kills": len(chosen), "of operations": trials.operations}


def signals(trials: Trials, times: int, rng: random.Random) -> Figures:
    """SIGTERM and SIGINT in turn: the right exit code within the time of a step, nothing lost, no traceback."""
    waits: list[float] = []
    for i in range(times):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        folder = trials.folder()
        child = trials.begin(folder)
        time.sleep(rng.uniform(0, trials.seconds))
        sent = time.monotonic()
        met = child.send(number)
        code = child.wait(WITHIN + 60)
        if met and code != 0:  # otherwise it had finished
            waits.append(time.monotonic() - sent)
            assert code == 128 + number, f"{number.name} ends in {code}: {child.said[-1500:]}"
        assert "Traceback" not in child.said, child.said[-1500:]
        trials.look(folder)
        trials.go_on(folder)
    assert not waits or max(waits) < WITHIN, f"{max(waits):.1f} s from the signal to the end"
    figures: Figures = {"signals": times, "at work": len(waits)}
    if waits:
        figures |= {"median seconds to the end": round(median(waits), 3), "longest": round(max(waits), 3)}
    return figures


def full_disks(trials: Trials, times: int, rng: random.Random, disk: Path | None) -> Figures:
    """A disk that becomes full during the work: one sentence, nothing lost, and with space the job continues.

    disk: a small file system; without one, the system refuses files over a size instead.
    """
    refused = 0
    assert trials.operations
    largest = max(p.stat().st_size for p in trials.expected.rglob("*") if p.is_file())
    for i in range(times):
        if disk is not None and i % 2 == 0:
            folder = disk / "work"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            trials.job.prepare(folder)
            filler = disk / "filler"
            free = shutil.disk_usage(disk).free
            needed = sum(p.stat().st_size for p in trials.expected.rglob("*") if p.is_file())
            filler.write_bytes(bytes(max(0, free - int(rng.uniform(0, 1.2) * needed))))
            child = trials.begin(folder)
            child.wait()
            filler.unlink()
        else:
            folder = trials.folder()
            child = trials.begin(folder, files_of_at_most(int(SMALLEST + rng.uniform(0, 1) ** 2 * largest)))
            child.wait()
        if child.code != 0:
            refused += 1
            assert any(words in child.said for words in SAID_BY_SYSTEM), child.said[-1500:]
            one_sentence(child)
        trials.look(folder)
        trials.go_on(folder)
    return {"disks": times, "refused": refused, "file system of its own": disk is not None}


def small_disk(folder: Path, size: int = 48 << 20) -> Path | None:
    """A file system of `size` bytes that only this process and its children see; None if the system refuses it."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, recursive = 0x20000, 1 << 18, 1 << 14  # CLONE_NEWNS, MS_PRIVATE, MS_REC
    folder.mkdir(parents=True)
    if libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, private | recursive, None):
        return None
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        return None
    return folder


def unmount(folder: Path) -> None:
    ctypes.CDLL(None).umount2(str(folder).encode(), 2)  # MNT_DETACH


def of_all_jobs(field: Field, scratch: Path) -> dict[str, Trials]:
    return {name: Trials(field, job, scratch) for name, job in JOBS.items()}
