"""What a row was begun with, kept in its folder: with other settings, its runs and figures must not be used again."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tunit.config import Config, all_fields
from tunit.errors import RunError
from tunit.experiments.experiment import FEATURES, Experiment
from tunit.experiments.outcome_file import OUTCOME
from tunit.experiments.plan import Plan
from tunit.experiments.split import Split
from tunit.files.atomic import write_text
from tunit.files.reading import MEBIBYTE, Record, UnreadableError, read_json
from tunit.training.preparation import RESUMABLE

NOTE = "row.json"  # in the folder of a row
PICTURES = "pictures"  # its entry for the pictures themselves
OF_THE_MACHINE = set(RESUMABLE) - {"steps"}  # may differ: they affect figures only by rounding


def check_same_settings(folder: Path, row: Experiment, plan: Plan, config: Config, split: Split) -> None:
    """Note in a row's new folder what the row is run with; of a folder that was begun before, compare it.

    Rows of older versions, which did not note this, are taken as they are. Raises as `compare_settings` does.
    """
    path = folder / NOTE
    if path.is_file():
        compare_settings(folder, row, plan, config, split)
    elif not any((folder / name).exists() for name in ("train.csv", OUTCOME)):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_all_noted(row, plan, config, split), indent=2) + "\n")


def compare_settings(folder: Path, row: Experiment, plan: Plan, config: Config, split: Split) -> None:
    """Compare what a row is run with now with the note in its folder, and write nothing.

    Raises RunError, with the name of the first setting that differs, or if the pictures in the split are others: a
    row must not be measured on pictures that it was trained on. The same if there is no note, or it is damaged.
    """
    path, now = folder / NOTE, _all_noted(row, plan, config, split)
    if not path.is_file():
        raise RunError(
            f"{folder} has no {NOTE}, so its settings are not known: ask for it by --only and --seeds "
            "to use it as it is"
        )
    try:
        before = Record(read_json(path, MEBIBYTE)).values
    except UnreadableError as error:
        raise RunError(f"{path} is damaged ({error}): remove its folder to have its row run again") from None
    for name, value in now.items():
        if name in before and before[name] != value:  # a setting that is newer than the folder is not there
            if name == PICTURES:
                raise RunError(
                    f"{folder} was begun with other pictures or classes than {plan.data} gives now: give another "
                    "--out, or the same pictures"
                )
            flag = f"--{name.replace('_', '-')}"
            raise RunError(
                f"{folder} was begun with {flag} {_words(before[name])}, and {flag} is {_words(value)} now: give "
                "another --out, or the same settings"
            )


def _all_noted(row: Experiment, plan: Plan, config: Config, split: Split) -> dict[str, Any]:
    """What a row's folder notes: all settings, and a digest of the pictures."""
    return _noted(row, plan, config) | {PICTURES: _digest_of(split)}


def _noted(row: Experiment, plan: Plan, config: Config) -> dict[str, Any]:
    """All that the figures of a row depend on, by the names of the options, as JSON gives it back."""
    network = {"cluster_features": plan.features_for_k_means} if row.labels == FEATURES else {}
    of_plan = {
        "smoke": plan.smoke,
        "data": str(plan.data.absolute()),
        "held_back": str(plan.held_back.absolute()) if plan.held_back else "",
        "between": list(plan.classes),
        "features": plan.features,
        "preprocessing": plan.preprocessing,
        "sources": plan.most_sources,
    }
    of_config = {name: config.value(name) for name in all_fields() if name not in OF_THE_MACHINE}
    noted: dict[str, Any] = json.loads(json.dumps(of_plan | network | of_config))
    return noted


def _digest_of(split: Split) -> str:
    """A digest of the paths and classes of the training and the held-back pictures."""
    parts = json.dumps([split.train, split.held])  # ASCII: paths that are not UTF-8 are escaped
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _words(value: Any) -> str:
    """A value as in a command line; one line, whatever a damaged file holds."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "(none)"
    return str(value) if value != "" else "(none)"
