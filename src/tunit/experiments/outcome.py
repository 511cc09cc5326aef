"""Tables of what was found, beside the paper's figures: Markdown and HTML."""

import statistics
from collections import defaultdict
from html import escape
from pathlib import Path
from typing import Any

from tunit.experiments.plan import Plan
from tunit.experiments.table import Table

PAPER_SETTING = "128 px, 200,000 steps of 32 pictures, Inception features (legacy pre-processing)"
SMALL = {"mFID": 1}  # decimals, 3 for the others


def write_outcome(table: Table, plan: Plan, outcomes: list[dict[str, Any]]) -> tuple[Path, Path]:
    """OUT/TABLE.md and OUT/TABLE.html; their paths."""
    rows = _rows(table, outcomes)
    notes = _differences(table, plan, outcomes)
    sets = sorted({name for row in table.rows for name in row.paper})
    head = ["", "configuration", *table.figures, *(f"{f}, paper {s}" for s in sets for f in table.figures)]
    plan.out.mkdir(parents=True, exist_ok=True)
    paths = plan.out / f"{table.name}.md", plan.out / f"{table.name}.html"
    lines = [f"# {table.title}", "", *(f"- {note}" for note in notes), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    paths[0].write_text("\n".join(lines) + "\n", "utf-8")
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    paths[1].write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(table.title)}</title>"
        "<style>body{font:16px system-ui;margin:2rem;color-scheme:light dark}td,th{padding:.3rem .7rem;"
        "text-align:right;border-bottom:1px solid #8884}"
        "td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}</style>"
        f"<h1>{escape(table.title)}</h1><ul>{listed}</ul><table><tr>{cells}</tr>{body}</table></html>\n",
        "utf-8",
    )
    return paths


def _rows(table: Table, outcomes: list[dict[str, Any]]) -> list[list[str]]:
    of_row = defaultdict(list)
    for outcome in outcomes:
        of_row[outcome["row"]].append(outcome["figures"])
    sets = sorted({name for row in table.rows for name in row.paper})
    rows = []
    for row in table.rows:
        if row.name not in of_row:
            continue
        ours = [_spread(name, [f[name] for f in of_row[row.name] if name in f]) for name in table.figures]
        theirs = [_number(f, row.paper.get(s, {}).get(f)) for s in sets for f in table.figures]
        rows.append([row.name, row.title, *ours, *theirs])
    return rows


def _spread(name: str, values: list[float]) -> str:
    """Mean, and the standard deviation over the seeds where there are several."""
    if not values:
        return "-"
    text = _number(name, statistics.mean(values))
    return f"{text} ± {_number(name, statistics.stdev(values))}" if len(values) > 1 else text


def _number(name: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{SMALL.get(name, 3)}f}"


def _differences(table: Table, plan: Plan, outcomes: list[dict[str, Any]]) -> list[str]:
    """How our setting and the paper's differ, exactly."""
    if not outcomes:
        return ["nothing was run"]
    first = outcomes[0]
    train, held = first["pictures"]
    steps = sorted({o["settings"]["steps"] for o in outcomes})
    sizes = sorted({o["settings"]["image size"] for o in outcomes})
    batches = sorted({o["settings"]["batch size"] for o in outcomes})
    seeds = len({o["seed"] for o in outcomes})

    def listed(values: list[int]) -> str:
        return " or ".join(f"{v:,}" for v in values)

    return [
        f"ours: {plan.data.name}, {train:,} training and {held:,} held-back pictures, {listed(sizes)} px, "
        f"{listed(steps)} steps of {listed(batches)} pictures, base preset {plan.base}, "
        f"{first['features']} features, {seeds} seed{'s' if seeds > 1 else ''}",
        f"the paper: {PAPER_SETTING}",
        "figures of different pictures, sizes and feature networks cannot be compared: look at the order of the rows",
        "± is the standard deviation over seeds",
    ]
