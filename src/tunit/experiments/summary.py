"""Summarise a table's results: means and spreads over the seeds, the best of each column, and the paper's claims."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tunit.experiments.experiment import CLASSES, Experiment, Ordering, Table

Outcomes = list[dict[str, Any]]
Values = dict[str, dict[str, float]]  # row -> figure -> value
DECIMALS = {"mFID": 1}  # digits after the point; 3 for all other figures
LOWER_IS_BETTER = ("mFID", "content error")
UNRANKED = ("effective number of domains",)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and whether our figures show it (`found`; None if a row was not run)."""

    words: str
    found: bool | None
    detail: str  # the figures that decide it

    @property
    def verdict(self) -> str:
        """The result in words."""
        return {True: "found", False: "not found", None: "not tried"}[self.found]


def rows_run(table: Table, outcomes: Outcomes) -> list[Experiment]:
    """The rows with an outcome, in the table's order."""
    names = {outcome["row"] for outcome in outcomes}
    return [row for row in table.rows if row.name in names]


def values_of(outcomes: Outcomes, row: str, figure: str) -> list[float]:
    """One value for each seed; values that are not finite are left out."""
    found = [o["figures"][figure] for o in outcomes if o["row"] == row and figure in o["figures"]]
    return [value for value in found if math.isfinite(value)]


def means_of(outcomes: Outcomes) -> Values:
    """The mean over the seeds of every figure of every row."""
    found: Values = {}
    for outcome in outcomes:
        for figure in outcome["figures"]:
            values = values_of(outcomes, outcome["row"], figure)
            if values:
                found.setdefault(outcome["row"], {})[figure] = statistics.mean(values)
    return found


def paper_values(table: Table, name: str) -> Values:
    """The paper's figures on a data set."""
    return {row.name: row.paper.get(name, {}) for row in table.rows}


def formatted(figure: str, value: float | None) -> str:
    """A value as the tables print it."""
    return "-" if value is None else f"{value:.{DECIMALS.get(figure, 3)}f}"


def spread(figure: str, values: list[float]) -> str:
    """The mean and, for several seeds, the standard deviation over them."""
    if not values:
        return "-"
    text = formatted(figure, statistics.mean(values))
    return f"{text} ± {formatted(figure, statistics.stdev(values))}" if len(values) > 1 else text


def paper_columns(table: Table) -> list[tuple[str, str]]:
    """(data set, figure) for all figures of the paper, set by set."""
    sets = sorted({name for row in table.rows for name in row.paper})
    return [
        (name, figure)
        for name in sets
        for figure in table.figures
        if any(figure in row.paper.get(name, {}) for row in table.rows)
    ]


def best_rows(rows: Iterable[Experiment], figure: str, values: Values) -> set[str]:
    """Names of the rows with the best value: among those with true labels, and among those without, as in the paper.

    If there is only one row with true labels, or only one without, it is not among the best. The result is empty for
    figures of which it cannot be said whether high or low is better.
    """
    if figure in UNRANKED:
        return set()
    best: set[str] = set()
    choose = min if figure.startswith(LOWER_IS_BETTER) else max
    known = [row for row in rows if figure in values.get(row.name, {})]
    for labelled in (True, False):
        group = [(row.name, values[row.name][figure]) for row in known if (row.labels == CLASSES) == labelled]
        if len(group) > 1:
            top = choose(found for _, found in group)
            best |= {name for name, found in group if found == top}
    return best


def claims_of(table: Table, outcomes: Outcomes) -> list[Claim]:
    """Every claim of the table, judged by the means over the seeds; for several seeds, also how many show it."""
    means = means_of(outcomes)
    seeds = sorted({outcome["seed"] for outcome in outcomes})
    claims = []
    for ordering in table.orderings:
        claim = judged(ordering, means)
        if claim.found is not None and len(seeds) > 1:
            by_seed = [
                judged(ordering, means_of([o for o in outcomes if o["seed"] == seed])) for seed in seeds
            ]
            tried = [one for one in by_seed if one.found is not None]
            detail = f"{claim.detail}; in {sum(bool(one.found) for one in tried)} of {len(tried)} seeds"
            claim = Claim(claim.words, claim.found, detail)
        claims.append(claim)
    return claims


def judged(ordering: Ordering, values: Values) -> Claim:
    """Whether values (ours or the paper's) show an ordering."""
    figure = ordering.figure
    rows = dict.fromkeys((*ordering.low, *ordering.high))
    missing = [row for row in rows if figure not in values.get(row, {})]
    if missing:
        return Claim(ordering.words, None, f"no {figure} of {', '.join(missing)}")
    low = max(ordering.low, key=lambda row: values[row][figure])
    high = min(ordering.high, key=lambda row: values[row][figure])
    a, b = values[low][figure], values[high][figure]
    detail = f"{figure} {formatted(figure, a)} ({low}), {formatted(figure, b)} ({high})"
    if ordering.factor != 1:
        detail += f"; up to {ordering.factor:g} times that is allowed"
    # Equal figures do not show that one row is below another.
    found = a <= ordering.factor * b if ordering.factor != 1 else a < b
    return Claim(ordering.words, found, detail)
