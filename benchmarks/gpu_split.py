"""gpu.py train: the pictures, a fifth of every class held back, and the figures on these."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_report import Setting
from tunit.data.creatures.picture_set import TABLE, write_creatures
from tunit.evaluation.against_trivial import OURS
from tunit.evaluation.of_run import evaluate_run
from tunit.experiments.split import CLASS, Split, split_pictures, write_table
from tunit.features.feature_networks import DEFAULT

SIDE, CREATURES = 128, 3000
TINY_SIDE, TINY_CREATURES = 32, 120
SOURCES = 60  # pictures that are translated into each class for mFID
DATA = os.environ.get("TUNIT_TEST_DATA", Path(__file__).parent.parent / "shared" / "data")


@dataclass(frozen=True)
class Pictures:
    """A set of pictures with classes, and tables (CSV) of its two parts."""

    source: Path  # a folder of class folders, or a table
    split: Split
    train: Path
    held: Path


def pictures_of(setting: Setting) -> dict[str, Pictures]:
    """The sets to train on, by name: creatures, drawn here if necessary, and other folders that exist."""
    drawn = setting.runs / "creatures-pictures"
    if not (drawn / TABLE).is_file():  # an earlier call may have been ended while it drew
        shutil.rmtree(drawn, ignore_errors=True)
        number, side = (TINY_CREATURES, TINY_SIDE) if setting.tiny else (CREATURES, SIDE)
        write_creatures(drawn, number, side, 0)
    # The tables lie beside that of the creatures, where the evaluation looks for it: it has the exact translations.
    found = {"creatures": _parted(drawn / TABLE, drawn)}
    other = setting.data or Path(DATA) / "grocery10"
    if not setting.tiny and other.exists():
        found[other.stem] = _parted(other, setting.runs / f"{other.stem}-pictures")
    return found


def _parted(source: Path, folder: Path) -> Pictures:
    """The set in two parts, which are the same in every call."""
    split = split_pictures(source)
    train = write_table(folder / "train.csv", split.train)
    return Pictures(source, split, train, write_table(folder / "held.csv", split.held))


def measured(setting: Setting, run: Path, pictures: Pictures, *, translates: bool) -> dict[str, Any]:
    """The figures of a run on the held-back pictures; without `translates` only those of its domains."""
    found = evaluate_run(
        run,
        pictures.held,
        train=pictures.train,
        labels="csv",
        label_column=CLASS,
        features=DEFAULT,
        most_sources=4 if setting.tiny else SOURCES,
        translates=translates,
        beside_trivial=not translates,
        device=setting.device,
    )
    if translates:
        plain = found.as_json()
        return {"features": found.features} | {k: plain[k] for k in ("figures", "notes", "seconds")}
    rows = {name: row for name, row in found.trivial.rows.items() if "accuracy" in row}
    others = [name for name in rows if name != OURS]
    best = max(others, key=lambda name: rows[name]["accuracy"], default="")
    figures = {k: v for k, v in found.as_json()["figures"].items() if k in ("accuracy", "NMI")}
    return figures | {"best trivial baseline": {best: rows.get(best)}, "verdict": found.trivial.verdict}
