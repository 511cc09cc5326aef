"""Ten thousand steps: memory and speed must not change."""

import json
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from soak.children import start
from soak.jobs import Field
from tiny_run import tiny_config
from tunit.training.launch import start_run

PARTS = 40  # the steps are divided into this many parts, with a measurement at the end of each
GROWTH = 2.0  # allowed growth in MiB per thousand steps; the tensors of a step are some MiB
SLOWER = 1.3  # allowed ratio of CPU time per step, last quarter over second quarter
MEBIBYTE = 1 << 20


def steady(field: Field, scratch: Path, steps: int) -> dict[str, object]:
    """Train with tiny networks; measure resident memory and CPU time (which other work does not change)."""
    every = max(1, steps // PARTS)

    def work() -> int:
        seen = []

        def look(state):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append((state.step, pages * 4096 / MEBIBYTE, time.process_time()))
            return {}

        config = tiny_config(
            steps=steps, guide_only_until=every, average_from=2 * every, log_every=max(1, every // 5),
            sample_every=2 * every, checkpoint_every=every,
        )  # fmt: skip
        start_run(field.pictures, scratch / "steady", config, quiet=True, evaluate=look, evaluate_every=every)
        (scratch / "steady.json").write_text(json.dumps(seen))
        return 0

    child = start(work, scratch / "steady.log")
    child.wait(4 * 3600)
    assert child.code == 0, child.said[-1500:]
    rows = json.loads((scratch / "steady.json").read_text())
    later = rows[len(rows) // 4 :]
    growth = 1000 * slope([row[0] for row in later], [row[1] for row in later])
    each = [1000 * (b[2] - a[2]) / (b[0] - a[0]) for a, b in pairwise(rows)]
    quarter = len(each) // 4
    early, late = median(each[quarter : 2 * quarter]), median(each[-quarter:])
    assert growth < GROWTH, f"memory grows by {growth:.2f} MiB for each thousand steps"
    assert late < SLOWER * early, f"a step took {early:.1f} ms of CPU time, and later {late:.1f}"
    return {
        "steps": steps,
        "MiB more for each 1,000 steps": round(growth, 3),
        "MiB at the end": round(rows[-1][1]),
        "CPU ms a step, second quarter": round(early, 2),
        "CPU ms a step, last quarter": round(late, 2),
    }


def slope(x: list[float], y: list[float]) -> float:
    """The slope of the least-squares line."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
