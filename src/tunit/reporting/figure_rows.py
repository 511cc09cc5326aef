"""The figures of evaluation.json as text, for the tables of pages and cards."""

from collections.abc import Mapping
from typing import Any

from tunit.evaluation.result import trained_on_of
from tunit.pages.charts import number


def measured_on(evaluation: Mapping[str, Any]) -> str:
    """On which pictures a result of `tunit evaluate` was measured: "held-back pictures" or, if the run was trained on
    some of them, how many.
    """
    words = trained_on_of(evaluation)
    return f"pictures that were not all held back ({words})" if words else "held-back pictures"


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(figure, value, 95 % interval, number of pictures) of each; the last two are "" if it has no interval."""
    rows = []
    for name, figure in figures.items():
        if isinstance(figure, dict):
            interval = f"{number(figure['low'])} to {number(figure['high'])}"
            rows.append((name, number(figure["value"]), interval, f"{figure['number']:,}"))
        else:
            rows.append((name, number(figure), "", ""))
    return rows
