"""What a training shows while it runs: curves, samples and alarms, of one run or of several side by side."""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunit.files.reading import is_number
from tunit.pages.charts import Series, line_chart
from tunit.studio.workspace import Run, is_inside
from tunit.training.alarms.guide_alarms import Alarm
from tunit.training.alarms.watch import alarms_of, rows_of

# One chart each: its title, and the figure of metrics.jsonl that it shows.
CHARTS = {
    "mutual information of E": "guide/mutual_information",
    "style loss of E": "guide/style",
    "share of the largest domain": "domains/largest_share",
    "domains in use": "domains/in_use",
    "reconstruction of G": "generator/reconstruction",
    "adversarial loss of G": "generator/adversarial",
    "D on real pictures": "discriminator/real",
    "D on translations": "discriminator/fake",
    "effect of the reference": "translation/style_effect",
    "effect of the source": "translation/content_effect",
    "pictures per second": "speed/pictures_per_second",
}
_SAMPLE = re.compile(r"step_([0-9]{8,16})\.png")
MOST_KEPT = 16  # logs kept in memory


class Logs:
    """The lines of metrics.jsonl of recently requested runs; a file is read again only if it has changed."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = {}
        self._lock = threading.Lock()

    def rows(self, run: Run) -> list[dict[str, Any]]:
        """All complete lines; empty if there are none yet."""
        path = run.folder.metrics
        try:
            status = path.stat()
        except OSError:
            return []
        stamp = status.st_mtime_ns, status.st_size
        with self._lock:
            kept = self._kept.pop(path, None)
            if kept is None or kept[0] != stamp:
                kept = stamp, rows_of(path)
            self._kept[path] = kept  # the most recently requested one is the last
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            return kept[1]


def charts_of(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    """Charts as HTML. runs: (name, lines) of each run; every chart has a curve for each run."""
    drawn = []
    for title, figure in CHARTS.items():
        series: list[Series] = []
        for name, rows in runs:
            points = [
                (row["step"], float(row[figure]))
                for row in rows
                if type(row.get("step")) is int and is_number(row.get(figure))
            ]
            series.append((name, [step for step, _ in points], [value for _, value in points]))
        drawn.append(line_chart(title, series))
    return "".join(drawn)


def alarms_in(rows: list[dict[str, Any]]) -> list[Alarm]:
    """The alarms of a run, newest first; alarms that have ended come last."""
    found = alarms_of(rows)
    return sorted(found, key=lambda alarm: (alarm.over is not None, -alarm.step))


def samples_of(run: Run) -> list[int]:
    """The steps for which there are sample grids."""
    try:
        names = [path.name for path in run.folder.samples.iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _SAMPLE.fullmatch(name)))


def sample_path(run: Run, name: str, root: Path) -> Path | None:
    """The file of a sample grid; None if there is none, or if it lies outside of the workspace."""
    path = run.folder.samples / name
    if not _SAMPLE.fullmatch(name) or not is_inside(path, root) or not path.is_file():
        return None
    return path
