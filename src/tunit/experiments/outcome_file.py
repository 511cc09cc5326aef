"""A row's outcome.json: what an earlier call measured."""

from pathlib import Path
from typing import Any

from tunit.errors import RunError
from tunit.evaluation.result import NO_FEATURES
from tunit.experiments.experiment import Experiment
from tunit.files.reading import LARGEST_WHOLE, Record, UnreadableError, read_json

OUTCOME = "outcome.json"  # in the folder of a row
LARGEST_OUTCOME = 1 << 24  # bytes
# The entry that says whether the accuracy is that of the training's labels.
ACCURACY_OF_LABELS = "accuracy of labels"
# The setting that says how many pictures of the smallest class had a label, with `labelled_of_class`.
LABELS_OF_A_CLASS = "labels of a class"
# Settings that every outcome has, and those that outcomes of development versions before 0.1.0 may lack.
NEEDED = ("image size", "steps", "batch size")
COUNTED = ("domains", "candidate heads", "overclusters", LABELS_OF_A_CLASS)


def read_finished(path: Path, row: Experiment) -> dict[str, Any] | None:
    """What an earlier call measured; None if it measured nothing, or not the translations of a row that has some.

    Without a feature network, development versions before 0.1.0 finished such a row all the same. Raises RunError if
    the file is damaged.
    """
    if not path.is_file():
        return None
    outcome = read_outcome(path)
    return None if row.translates and outcome["features"] == NO_FEATURES else outcome


def is_finished(path: Path, row: Experiment) -> bool:
    """Whether a row has to be neither trained nor measured. A damaged file counts: reading it says what to do."""
    try:
        return read_finished(path, row) is not None
    except RunError:
        return True


def read_outcome(path: Path) -> dict[str, Any]:
    """What an earlier call measured. Raises RunError if the file is damaged."""
    try:
        outcome = Record(read_json(path, LARGEST_OUTCOME))
        for name in ("row", "features"):
            outcome.text(name)
        if "trained_on" in outcome.values:
            outcome.text("trained_on")
        outcome.whole("seed")
        outcome.texts("notes")
        if len(outcome.wholes("pictures")) != 2:
            raise UnreadableError("its entry 'pictures' is not two numbers")
        settings = outcome.record("settings")
        for name in set(NEEDED) | (set(COUNTED) & settings.values.keys()):
            settings.whole(name)
        if "marginal balance" in settings.values:
            settings.number("marginal balance")
        figures = outcome.record("figures")
        for name, value in figures.values.items():
            if not isinstance(value, float):  # a float may be NaN, which means that it could not be measured
                figures.whole(name, -LARGEST_WHOLE)
    except UnreadableError as error:
        raise RunError(f"{path} is damaged ({error}): remove it to have its row measured again") from None
    return outcome.values
