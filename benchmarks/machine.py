"""The machine and the versions with which a benchmark ran, for its result file."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def about() -> dict[str, Any]:
    """Machine, versions and date, for a result file."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def write(name: str, result: dict[str, Any]) -> Path:
    """Write results/NAME.json, together with the machine and the versions."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"about": about(), **result}, indent=2) + "\n")
    return path


def cpu_seconds(pid: int) -> float:
    """CPU time of a running process and of all processes that it started, as Linux counts it (in hundredths)."""
    return sum(_ticks(one) for one in _family(pid)) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    children = [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if _stat(int(path.name))[1:2] == [pid]
    ]
    return [pid, *(one for child in children for one in _family(child))]


def _ticks(pid: int) -> int:
    return sum(_stat(pid)[11:13])


def _stat(pid: int) -> list[int]:
    """The numbers after the name in /proc/PID/stat, the state as 0; empty if the process has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [0, *map(int, words[1:])]
