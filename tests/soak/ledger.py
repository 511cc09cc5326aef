"""What was tested and whether it held: a line for each promise on the terminal, and rows for a JSON file."""

import base64
import json
import platform
import resource
import subprocess
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

SHOWN_WHOLE = 1 << 15  # bytes of a failing input that is also written into the JSON file


class FailedInputs(AssertionError):
    """A promise was broken by inputs, which are kept in files."""

    def __init__(self, why: str, kept: list[Path]) -> None:
        super().__init__(f"{why} (inputs kept: {', '.join(map(str, kept)) or 'none'})")
        self.kept = kept


class Ledger:
    """One row per promise. out: the file for all rows, written again after each of them; command: goes into it."""

    def __init__(self, out: Path | None = None, command: str = "") -> None:
        self.rows: list[dict[str, Any]] = []
        self._code = code_state()
        self._out, self._command, self._began = out, command, time.monotonic()

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
            if isinstance(error, FailedInputs):
                row["inputs kept"] = [_kept(path) for path in error.kept]
        row["seconds"] = round(time.monotonic() - began, 1)
        row["CPU seconds"] = round(cpu_seconds() - cpu, 1)
        self.rows.append(row)
        self._write()
        told = ", ".join(f"{key} {value}" for key, value in row["figures"].items())
        print(
            f"{'pass' if row['holds'] else 'FAIL'}  {name}: {promise} ({told or row.get('why')})", flush=True
        )
        return bool(row["holds"])

    def _write(self) -> None:
        if self._out is None:
            return
        content = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": self._command,
            "code": self._code,
            "machine": machine(),
            "minutes": round((time.monotonic() - self._began) / 60, 1),
            "promises": self.rows,
        }
        self._out.write_text(json.dumps(content, indent=1) + "\n")


def _kept(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    whole = {"base64": base64.b64encode(data).decode()} if len(data) <= SHOWN_WHOLE else {}
    return {"file": str(path)} | whole


def cpu_seconds() -> float:
    """Of this process and of the processes that it has waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def code_state() -> str:
    """The commit of the code that is tested, with "-dirty" if files differ from it; "unknown" without git."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return "unknown"
    return said.stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    """The machine of the test."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
