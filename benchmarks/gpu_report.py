"""Shared by the parts of gpu.py: the time that remains, and a report that is saved after every line."""

import gc
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from machine import about
from tunit.config import Config
from tunit.training.resources import resolve_machine

RESERVE = 5.0  # seconds kept for the end
MOST_BYTES = 16_000_000  # of a result: machines lent for an hour may give nothing larger back
NARROW = {"guide_width": 4, "generator_width": 4, "discriminator_width": 4, "queue_length": 16}


class Clock:
    """The seconds that a part of gpu.py may use."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._began = seconds, time.monotonic()

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self._began)

    def has(self, seconds: float) -> bool:
        """Whether this many seconds remain."""
        return self.left() - RESERVE >= seconds


class Report:
    """OUT/gpu-NAME.json, rewritten after every entry, so that no result is lost if the process ends early."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / f"gpu-{name}.json"
        self.found: dict[str, Any] = {"about": about()}

    def put(self, name: str, value: Any) -> None:
        self.found[name] = value
        print(f"{name}: {json.dumps(_plain(value))[:600]}", flush=True)
        self._write()

    def row(self, name: str, ok: bool | None, measured: Any, bound: Any) -> None:
        """Add a row. ok: None if it was not tried."""
        row = {"name": name, "ok": ok, "measured": _plain(measured), "bound": bound}
        self.found.setdefault("rows", []).append(row)
        print(
            f"{'not tried' if ok is None else 'ok' if ok else 'FAILED'}: {json.dumps(row)[:600]}", flush=True
        )
        self._write()

    def _write(self) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(_plain(self.found), indent=1) + "\n")
        partial.replace(self.path)


def copied(report: Report, source: Path, name: str) -> None:
    """Copy a file into the report's folder, unless it is too large: then the report names it."""
    size = source.stat().st_size
    if size > MOST_BYTES:
        report.put(f"{name}, left out", f"{size} bytes")
    else:
        shutil.copyfile(source, report.folder / name)


def leave_out_large(folder: Path, part: str) -> None:
    """Remove results that are too large to be brought back from the machine, and name them in the part's report."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("gpu*") if path.is_file()}
    large = {name: size for name, size in sizes.items() if size > MOST_BYTES}
    for name in large:
        (folder / name).unlink()
    if large:
        path = folder / f"gpu-{part}.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(found | {"left out": large}, indent=1) + "\n")
        print(f"left out, because larger than {MOST_BYTES} bytes: {large}", flush=True)


def _plain(value: Any) -> Any:
    """The value in a form that JSON supports."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, bool | int | str | None) else str(value)


@dataclass
class Setting:
    """The device, the folders, and the sizes to measure."""

    device: torch.device
    out: Path
    clock: Clock
    tiny: bool = False
    runs: Path = Path("/tmp/tunit-gpu-runs")
    data: Path | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def config(self, side: int, batch: int, **overrides: Any) -> Config:
        """The paper's setting at a size; if `tiny`, narrow networks and small pictures."""
        settings = {"image_size": side, "batch_size": batch, "domains": 10, "device": str(self.device)}
        if self.tiny:
            settings |= NARROW | {"image_size": 32, "batch_size": min(batch, 4), "threads": 1}
        return resolve_machine(Config().with_overrides(settings | overrides))

    def narrow(self, side: int, batch: int, **overrides: Any) -> Config:
        """The same with narrow networks."""
        return self.config(side, batch, **NARROW | overrides)

    def wait(self) -> None:
        """Wait until the GPU has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def empty(self) -> None:
        """Release the GPU memory that PyTorch caches, and reset its peak."""
        if self.device.type == "cuda":
            gc.collect()  # states may hold each other
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mib(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.device) >> 20 if self.device.type == "cuda" else None


def guarded(clock: Clock, ended: Callable[[], None] = lambda: None) -> threading.Timer:
    """Start a thread that ends the process when the time is over. Results so far are on the disk."""

    def end() -> None:
        print("the time is over: what was found is written", flush=True)
        ended()
        os._exit(3)

    timer = threading.Timer(max(clock.left(), 0.1), end)
    timer.daemon = True
    timer.start()
    return timer


def attempt(setting: Setting, report: Report, name: str, seconds: float, work: Callable[[], Any]) -> None:
    """Add the result of `work` to the report if enough seconds remain. An error is added too and stops nothing.

    `work` may report under the same name while it goes on; its result, or the error, is added to that.
    """
    if not setting.clock.has(0 if setting.tiny else seconds):
        report.put(name, f"not tried: {setting.clock.left():.0f} s left")
        return
    began = time.monotonic()
    try:
        value = work()
    except Exception as error:  # after any error, the rest can still be measured
        value = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    if value is not None:
        before = report.found.get(name)  # what `work` has reported before an error
        report.put(name, before | value if isinstance(before, dict) and isinstance(value, dict) else value)
    try:
        setting.empty()
    except Exception as error:  # after some errors a GPU refuses all further work
        report.put(f"{name}, memory not released", str(error)[:500])
    print(f"  ({name}: {time.monotonic() - began:.1f} s, {setting.clock.left():.0f} s left)", flush=True)
