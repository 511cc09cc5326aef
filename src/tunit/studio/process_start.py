"""When a process has begun: its id alone does not tell it from an earlier one, because ids are given again."""

import os
import subprocess
from pathlib import Path


def born(process: int) -> str | None:
    """The start time of a process, in the system's own form; None if it has ended or never existed."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
        return _born_by_ps(process)
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _born_by_ps(process: int) -> str | None:
    """As `born`, for systems without /proc, such as macOS."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(process)]
    try:
        # The same form of dates and the same time zone always, whatever the settings of the one who asks.
        settings = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    state, _, time = done.stdout.strip().partition(" ")
    return None if not time or state.startswith("Z") else time.strip()
