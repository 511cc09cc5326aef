"""The page of a table: one HTML file that needs neither scripts nor network, in the look of `tunit report`."""

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from tunit._version import __version__
from tunit.experiments.findings import (
    Claim,
    Outcomes,
    best_rows,
    means_of,
    number,
    paper_columns,
    paper_values,
    rows_run,
    spread,
    values_of,
)
from tunit.experiments.table import Table
from tunit.printing import escape

WIDTH, LINE, VALUE = 340, 20, 52  # of a chart: all, a row's height, room for its value
LETTER = 6.2  # width of a letter of a row's name
# What the report's style sheet has no rules for.
STYLE = (
    ".best{font-weight:700;color:var(--accent)}.paper{border-left:2px solid var(--line)}"
    "th small,td small{color:var(--soft);font-weight:400}thead th{vertical-align:bottom}"
    ".findings li.yes{border-color:var(--s2)}.findings li b{margin-right:.4rem}"
    "th[scope=row]{position:sticky;left:0;background:var(--bg)}"
    ".mark.s0{fill:var(--s0)}.mark.s1{fill:var(--s1)}.whisker{stroke:var(--fg);stroke-width:1.2}"
    ".chart svg{display:block}.shown{max-width:100%;height:auto;border-radius:8px;image-rendering:pixelated}"
)


def render(
    table: Table,
    outcomes: Outcomes,
    notes: Sequence[str],
    claims: Sequence[Claim],
    *,
    links: dict[str, str] | None = None,
    pictures: Sequence[Path] = (),
) -> str:
    """The whole page as text.

    links: row -> address of its map of styles, relative to the page. pictures: PNG files to show; those that are
    not there are left out.
    """
    shown = "".join(
        f'<p><img class="shown" alt="translations, weak to strong" src="data:image/png;base64,'
        f'{b64encode(path.read_bytes()).decode()}"></p>'
        for path in pictures
        if path.is_file()
    )
    maps = "".join(
        f'<li><a href="{escape(address, quote=True)}">{escape(row)}</a></li>'
        for row, address in (links or {}).items()
    )
    parts = [
        f"<h1>{escape(table.title)}</h1>",
        f'<p class="lead">{escape(notes[0])}</p>' if notes else "",
        _claims(claims),
        f"<h2>Figures</h2>{_table(table, outcomes)}" if outcomes else "",
        _charts(table, outcomes),
        f"<h2>Translations</h2>{shown}" if shown else "",
        f"<h2>Maps of styles</h2><ul>{maps}</ul>" if maps else "",
        "<h2>How to read it</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes[1:]) + "</ul>",
    ]
    style = files("tunit.report").joinpath("page.css").read_text("utf-8") + STYLE
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(table.title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"<footer>Made by tunit {escape(__version__)}. This file needs no network.</footer></body></html>\n"
    )


def _claims(claims: Sequence[Claim]) -> str:
    """The paper's claims with our verdict, those that nothing was run for as one line."""
    tried = [claim for claim in claims if claim.found is not None]
    items = [
        f'<li class="{"yes" if claim.found else "serious"}"><b>{claim.verdict}</b>{escape(claim.words)} '
        f'<span class="fine">({escape(claim.detail)})</span></li>'
        for claim in tried
    ]
    if len(tried) < len(claims):
        items.append(
            f"<li><b>not tried</b>{len(claims) - len(tried)} of {len(claims)}, as rows of theirs were not run</li>"
        )
    return f'<h2>What the paper claims</h2><ul class="findings">{"".join(items)}</ul>' if items else ""


def _table(table: Table, outcomes: Outcomes) -> str:
    """Ours, then the paper's, the best of each column emphasised."""
    rows, means, columns = rows_run(table, outcomes), means_of(outcomes), paper_columns(table)
    best = [best_rows(rows, figure, means) for figure in table.figures]
    theirs = [best_rows(rows, figure, paper_values(table, name)) for name, figure in columns]
    head = "".join(
        f"<th scope='col'>{escape(figure)}<br><small>ours</small></th>" for figure in table.figures
    )
    head += "".join(
        f"<th scope='col' class='paper'>{escape(figure)}<br><small>paper, {escape(name)}</small></th>"
        for name, figure in columns
    )
    lines = []
    for row in rows:
        cells = "".join(
            _cell(spread(figure, values_of(outcomes, row.name, figure)), row.name in best[i], "")
            for i, figure in enumerate(table.figures)
        )
        cells += "".join(
            _cell(number(figure, row.paper.get(name, {}).get(figure)), row.name in theirs[i], "paper")
            for i, (name, figure) in enumerate(columns)
        )
        title = f"{escape(row.name)}<br><small>{escape(row.title)}</small>"
        lines.append(f"<tr><th scope='row'>{title}</th>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        '<p class="meta">The best of each column stands out, rows with true labels and without apart.</p>'
    )


def _cell(text: str, best: bool, kind: str) -> str:
    classes = " ".join(filter(None, (kind, "best" if best else "")))
    return f'<td class="{classes}">{escape(text)}</td>' if classes else f"<td>{escape(text)}</td>"


def _charts(table: Table, outcomes: Outcomes) -> str:
    """The first figure by row, ours and each of the paper's on a scale of its own."""
    rows, figure = rows_run(table, outcomes), table.figures[0]
    if len(rows) < 2:
        return ""
    ours = [(row.name, values_of(outcomes, row.name, figure)) for row in rows]
    charts = [bar_chart(f"{figure}, ours", figure, ours)]
    for name, column in paper_columns(table):
        if column == figure:
            known = [
                (row.name, [row.paper[name][figure]]) for row in rows if figure in row.paper.get(name, {})
            ]
            charts.append(bar_chart(f"{figure}, paper, {name}", figure, known, colour=1))
    return f'<h2>By row</h2><div class="charts">{"".join(charts)}</div>'


def bar_chart(title: str, figure: str, rows: Sequence[tuple[str, list[float]]], colour: int = 0) -> str:
    """Bars from 0 to the mean of each row's values, with a line from least to largest where there are several.

    An SVG of its own scale; rows without values are left out, and without any there is no chart.
    """
    known = [(name, values) for name, values in rows if values]
    top = max((max(values) for _, values in known), default=0.0)
    if top <= 0:
        return ""
    left = LETTER * max(len(name) for name, _ in known) + 8
    scale = (WIDTH - left - VALUE) / top
    parts = []
    for i, (name, values) in enumerate(known):
        y, mean = LINE * i, sum(values) / len(values)
        length = max(0.0, mean * scale)
        parts.append(
            f'<text x="{left - 6:.1f}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="mark s{colour}" x="{left:.1f}" y="{y + 4}" width="{length:.1f}" height="12" rx="2"/>'
        )
        end = left + max(length, max(values) * scale) + 5
        if len(values) > 1:
            low, high = (left + max(0.0, edge * scale) for edge in (min(values), max(values)))
            parts.append(
                f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10}" y2="{y + 10}"/>'
            )
        parts.append(f'<text x="{end:.1f}" y="{y + 14}">{number(figure, mean)}</text>')
    label = f"{title}: " + ", ".join(f"{name} {number(figure, sum(v) / len(v))}" for name, v in known)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {LINE * len(known) + 4}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg></figure>"
    )
