"""What was tested and whether it held: a line for each promise on the terminal, and rows for a JSON file."""

import platform
import resource
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch


class Ledger:
    """One row per promise."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def hold(self, name: str, promise: str, check: Callable[[], dict[str, object]]) -> bool:
        """Test a promise. name: short, for tests and tables. check: returns figures; raises an error if the promise
        is broken.
        """
        began, cpu, row = time.monotonic(), cpu_seconds(), {"name": name, "promise": promise}
        try:
            figures = check()
            row |= {"holds": True, "figures": figures}
        except Exception as error:
            trace = "" if isinstance(error, AssertionError) else traceback.format_exc()
            row |= {"holds": False, "figures": {}, "why": f"{type(error).__name__}: {error}\n{trace}".strip()}
        row["seconds"] = round(time.monotonic() - began, 1)
        row["CPU seconds"] = round(cpu_seconds() - cpu, 1)
        self.rows.append(row)
        told = ", ".join(f"{key} {value}" for key, value in row["figures"].items())
        print(
            f"{'pass' if row['holds'] else 'FAIL'}  {name}: {promise} ({told or row.get('why')})", flush=True
        )
        return bool(row["holds"])


def cpu_seconds() -> float:
    """Of this process and of the processes that it has waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def machine() -> dict[str, str]:
    """The machine of the test."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
