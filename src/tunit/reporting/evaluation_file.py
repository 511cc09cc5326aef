"""Read the result of `tunit evaluate`, and check that a page can show it."""

from pathlib import Path
from typing import Any

from tunit.errors import RunError
from tunit.evaluation.of_run import LARGEST_RESULT, RESULT
from tunit.files.reading import Record, UnreadableError, read_json
from tunit.training.run_folder import EVALUATION, RunFolder


def evaluation_of(run: RunFolder, figures: Path | None) -> dict[str, Any] | None:
    """The result of `tunit evaluate`; None if there is none."""
    try:
        found = Record(read_json(figures or run.path / EVALUATION / RESULT, LARGEST_RESULT))
        _check_evaluation(found)
        return found.values
    except UnreadableError as error:
        reason = str(error)
    if figures is not None:
        raise RunError(
            f"{figures} is not a result of tunit evaluate ({reason}): leave out --figures, or give another"
        )
    return None


def _check_evaluation(found: Record) -> None:
    """Raises UnreadableError if a result does not have the structure of a result of `tunit evaluate`."""
    _check_figures(found.record("figures"))
    for name in ("grouped_by", "features", "trained_on"):
        if name in found.values:
            found.text(name)
    if "notes" in found.values:
        found.texts("notes")
    if "step" in found.values:
        found.whole("step")
    groups = found.record("groups") if "groups" in found.values else Record({})
    for group in groups.values:
        of_group = groups.record(group)
        _check_figures(of_group)
        for name in of_group.values:
            of_group.record(name)


def _check_figures(figures: Record) -> None:
    for name, value in figures.values.items():
        if isinstance(value, dict):
            figure = figures.record(name)
            figure.whole("number")
            for part in ("value", "low", "high"):
                if not isinstance(figure.values.get(part), float):  # a float may be NaN
                    figure.number(part)
        elif not isinstance(value, float):
            figures.number(name)
