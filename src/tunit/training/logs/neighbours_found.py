"""By which measures E's neighbours were found, in the log of a run and in words.

A row {"step", "neighbours_by"} of metrics.jsonl says it when the first measures are chosen, and whenever others are.
Neighbours are looked for before a step; "step" counts the steps before it. Resumed runs and the report read the rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tunit.printing import listed

NEIGHBOURS_BY = "neighbours_by"


def measures_in(row: dict[str, Any]) -> list[str]:
    """The measures in a row of the log; none if it is another row."""
    names = row.get(NEIGHBOURS_BY)
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def measures_of(rows: Iterable[dict[str, Any]]) -> list[tuple[int, list[str]]]:
    """All measures in the rows of a log, in order, each with the first step that used them."""
    found = [(row.get("step"), measures_in(row)) for row in rows]
    return [(step + 1, names) for step, names in found if type(step) is int and names]


def in_words(measures: Sequence[str]) -> str:
    """The names of measures for people, such as "style codes and colours"."""
    return listed(["style codes" if name == "codes" else name for name in measures])


def sentence_of_measures(found: Sequence[tuple[int, list[str]]]) -> str:
    """The result of `measures_of` in a sentence for the report; empty if it is.

    It is empty if E learnt without neighbours, or if the log is of a version that did not write the rows.
    """
    parts = [
        in_words(names) + (f" (from step {step:,} on)" if len(found) > 1 else "") for step, names in found
    ]
    return f"While E trained alone, pictures counted as neighbours by: {'; '.join(parts)}." if parts else ""
