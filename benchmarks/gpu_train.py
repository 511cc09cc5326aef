"""gpu.py train: whole trainings with the preset for one's own pictures; each continues where the call before
stopped.
"""

import csv
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_report import NARROW, Report, Setting, attempt
from tunit.config import read_config
from tunit.data.creatures.picture_set import TABLE, write_creatures
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.errors import StopNow
from tunit.evaluation.clusters import clustering_accuracy
from tunit.methods.inference import guidance_over, in_batches
from tunit.methods.model_file import load_model
from tunit.training.interrupt import Interrupted
from tunit.training.launch import resume_run, start_run

SIDE, CREATURES, STEPS = 128, 3000, 6000
ENDING = 40.0  # seconds to finish a step and write the last checkpoint, for the accuracy and the pictures
DATA = os.environ.get("TUNIT_TEST_DATA", Path(__file__).parent.parent / "shared" / "data")


def pictures_of(setting: Setting) -> dict[str, Path]:
    """The folders to train on, by name: creatures, drawn here if necessary, and other folders that exist."""
    drawn = setting.runs / "creatures-pictures"
    if not (drawn / TABLE).is_file():  # an earlier call may have been ended while it drew
        shutil.rmtree(drawn, ignore_errors=True)
        write_creatures(drawn, 24 if setting.tiny else CREATURES, 32 if setting.tiny else SIDE, 0)
    found = {"creatures": drawn / "pictures"}
    other = setting.data or Path(DATA) / "grocery10"
    if not setting.tiny and other.exists():
        found[other.stem] = other
    return found


def trained(setting: Setting, source: Path, run: Path, seconds: float) -> str:
    """Train or resume until the end or until the time is over; returns "done" or why it stopped."""
    quiet, timer = True, threading.Timer(max(seconds, 1.0), lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        if (run / "config.toml").is_file():
            resume_run(run, quiet=quiet)
            return "done"
        config = read_config("default").with_overrides(
            {"device": str(setting.device), "image_size": SIDE, "steps": STEPS, "sample_every": 500}
        )
        if setting.tiny:
            tiny = {"image_size": 32, "steps": 4, "batch_size": 4, "threads": 1, "workers": 1, "domains": 3}
            config = config.with_overrides(NARROW | tiny | {"guide_only_batch_size": 4})
        start_run(source, run, config, quiet=quiet)
        return "done"
    except (Interrupted, StopNow) as error:
        return str(error) or "stopped"
    finally:
        timer.cancel()


def kinds_of(source: Path, pictures: PackedPictures) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The true kind of every picture: from the creatures' table, or from its folder."""
    table = source.parent / TABLE
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as lines:
            known = {Path(row["picture"]).name: row["label"] for row in csv.DictReader(lines)}
        names = [known[Path(name).name] for name in pictures.names]
    else:
        names = [Path(name).parts[0] for name in pictures.names]
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.int64)


@torch.inference_mode()
def accuracy_of(setting: Setting, source: Path, run: Path) -> dict[str, Any]:
    """How well the domains match the kinds, for the training pictures."""
    model, pictures = load_model(run, setting.device), open_packed(run / "data")
    guide = model.guide.eval()
    domains = guidance_over(guide, in_batches(pictures.images, setting.device)).logits.argmax(1).numpy()
    kinds = kinds_of(source, pictures)
    return {
        "step": model.step,
        "pictures": len(kinds),
        "kinds": int(kinds.max()) + 1,
        "domains": model.settings.domains,
        "clustering accuracy": clustering_accuracy(domains, kinds),
    }


def one(setting: Setting, report: Report, name: str, source: Path, seconds: float) -> dict[str, Any]:
    """Train for some seconds; what is known at each moment is reported, because the process may be ended."""
    run, began = setting.runs / f"{name}-run", time.monotonic()
    report.put(name, {"ended": "not yet"})
    try:
        found: dict[str, Any] = {"ended": trained(setting, source, run, seconds)}
    finally:
        lines = run / "metrics.jsonl"
        if lines.is_file():
            shutil.copyfile(lines, setting.out / f"gpu-{name}-metrics.jsonl")
    found["seconds of this call"] = time.monotonic() - began
    if lines.is_file():
        found["last line of metrics"] = lines.read_text().splitlines()[-1:]
    grids = sorted((run / "samples").glob("step_*.png"))
    if grids:
        shutil.copyfile(grids[-1], setting.out / f"gpu-{name}.png")
    report.put(name, found)
    if (run / "model.safetensors").is_file():
        found |= accuracy_of(setting, source, run)
    return found


def run(setting: Setting) -> None:
    """Every data set gets its share of the remaining time."""
    report = Report(setting.out, "train")
    setting.runs.mkdir(parents=True, exist_ok=True)
    sources = pictures_of(setting)
    for i, (name, source) in enumerate(sources.items()):
        seconds = setting.clock.left() / (len(sources) - i) - ENDING

        def work(name: str = name, source: Path = source, seconds: float = seconds) -> dict[str, Any]:
            return one(setting, report, name, source, seconds)

        attempt(setting, report, name, 2 * ENDING, work)
