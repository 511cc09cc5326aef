"""gpu.py train: whole trainings with the preset for one's own pictures, then rows of table 1; each continues where
the call before stopped.

A fifth of every class is held back from the trainings. On these pictures the domains are compared with the best
trivial baseline, and translations by mFID, density and coverage; those of creatures also with the exact translations.
"""

import json
import time
from pathlib import Path
from typing import Any

from gpu_report import NARROW, Report, Setting, attempt, copied
from gpu_rows import run_rows
from gpu_split import SIDE, Pictures, measured, pictures_of
from gpu_stopping import stopped_after
from tunit.config import read_config
from tunit.errors import StopNow
from tunit.methods.model_file import load_model
from tunit.training.interrupt import Interrupted
from tunit.training.launch import resume_run, start_run

STEPS = 6000
ENDING = 100.0  # seconds to finish a step, write the last checkpoint, and measure
FEWEST_SECONDS = 20.0  # with less time, nothing is measured
FIGURES = "held-back pictures.json"  # in the folder of a run: what was measured, and at which step


def trained(setting: Setting, pictures: Pictures, run: Path, seconds: float) -> str:
    """Train or resume until the end or until the time is over; returns "done" or why it stopped."""
    try:
        with stopped_after(seconds):
            if (run / "config.toml").is_file():
                resume_run(run, quiet=True)
                return "done"
            config = read_config("default").with_overrides(
                {"device": str(setting.device), "image_size": SIDE, "steps": STEPS, "sample_every": 500}
                | {"domains": len(pictures.split.classes)}
            )
            if setting.tiny:
                tiny = {"image_size": 32, "steps": 4, "batch_size": 4, "threads": 1, "workers": 1}
                config = config.with_overrides(NARROW | tiny | {"guide_only_batch_size": 4})
            start_run(pictures.train, run, config, quiet=True)
            return "done"
    except (Interrupted, StopNow) as error:
        return str(error) or "stopped"


def figures_of(
    setting: Setting, report: Report, name: str, run: Path, pictures: Pictures, found: dict[str, Any]
) -> None:
    """Add the figures of a run to `found` and report them: first the quick ones, because the process may be ended.

    They are kept in the run's folder, so that a finished run is measured only once.
    """
    kept, step = run / FIGURES, load_model(run).step
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    if known.get("step") != step:
        known = {"step": step}
    for part, translates in (("domains", False), ("translations", True)):
        if part not in known and setting.clock.has(0 if setting.tiny else FEWEST_SECONDS):
            try:
                with stopped_after(setting.clock.left() - FEWEST_SECONDS / 2):
                    known[part] = measured(setting, run, pictures, translates=translates)
            except StopNow:
                report.put(name, found | known | {part: "not measured: no time left"})
                return
            kept.write_text(json.dumps(known, indent=1) + "\n")
        report.put(name, found | known)
    found |= known


def one(setting: Setting, report: Report, name: str, pictures: Pictures, seconds: float) -> dict[str, Any]:
    """Train for some seconds; what is known at each moment is reported, because the process may be ended."""
    run, began = setting.runs / f"{name}-run", time.monotonic()
    numbers = {"pictures": [len(pictures.split.train), len(pictures.split.held)]}
    report.put(name, {"ended": "not yet"} | numbers)
    try:
        found: dict[str, Any] = {"ended": trained(setting, pictures, run, seconds)} | numbers
    finally:
        lines = run / "metrics.jsonl"
        if lines.is_file():
            copied(report, lines, f"gpu-{name}-metrics.jsonl")
    found["seconds of this call"] = time.monotonic() - began
    if lines.is_file():
        found["last line of metrics"] = lines.read_text().splitlines()[-1:]
    grids = sorted((run / "samples").glob("step_*.png"))
    if grids:
        copied(report, grids[-1], f"gpu-{name}.png")
    report.put(name, found)
    if (run / "model.safetensors").is_file():
        figures_of(setting, report, name, run, pictures, found)
    return found


def run(setting: Setting) -> None:
    """Every data set gets its share of the remaining time. When their trainings are done, the rows get it."""
    report = Report(setting.out, "train")
    setting.runs.mkdir(parents=True, exist_ok=True)
    sets = pictures_of(setting)
    for i, (name, pictures) in enumerate(sets.items()):
        share = setting.clock.left() / (len(sets) - i)
        seconds = max(
            share - ENDING, 0.4 * share
        )  # if there is little time, it is for training rather than measuring

        def work(name: str = name, pictures: Pictures = pictures, seconds: float = seconds) -> dict[str, Any]:
            return one(setting, report, name, pictures, seconds)

        attempt(setting, report, name, FEWEST_SECONDS, work)
    run_rows(setting, report, list(sets.values())[-1])
