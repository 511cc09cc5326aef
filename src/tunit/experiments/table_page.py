"""The page of a table: one HTML file in the style of `tunit report`, without scripts and without other files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tunit.experiments.experiment import Table
from tunit.experiments.summary import (
    Claim,
    Outcomes,
    best_rows,
    formatted,
    means_of,
    paper_columns,
    paper_values,
    rows_run,
    spread,
    values_of,
)
from tunit.pages.charts import bar_chart
from tunit.pages.document import bullets, document, table_of_cells
from tunit.pages.embedded import png_uri
from tunit.printing import escape

# Rules that the common style of all pages does not have.
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

    links: row -> address of its map of styles, relative to the page. pictures: PNG files to show; missing files are
    left out.
    """
    shown = "".join(
        f'<p><img class="shown" alt="translations, weak to strong" src="{png_uri(path)}"></p>'
        for path in pictures
        if path.is_file()
    )
    maps = [
        f'<a href="{escape(address, quote=True)}">{escape(row)}</a>' for row, address in (links or {}).items()
    ]
    parts = [
        f"<h1>{escape(table.title)}</h1>",
        f'<p class="lead">{escape(notes[0])}</p>' if notes else "",
        _claims(claims),
        f"<h2>Figures</h2>{_table(table, outcomes)}" if outcomes else "",
        _charts(table, outcomes),
        f"<h2>Translations</h2>{shown}" if shown else "",
        f"<h2>Maps of styles</h2>{bullets(maps)}" if maps else "",
        f"<h2>How to read it</h2>{bullets(map(escape, notes[1:]))}",
    ]
    return document(table.title, "".join(parts), style=STYLE)


def _claims(claims: Sequence[Claim]) -> str:
    """The paper's claims with our verdict; one line for all claims whose rows were not run."""
    tried = [claim for claim in claims if claim.found is not None]
    items = [
        f'<li class="{"yes" if claim.found else "serious"}"><b>{claim.verdict}</b>{escape(claim.words)} '
        f'<span class="fine">({escape(claim.detail)})</span></li>'
        for claim in tried
    ]
    if len(tried) < len(claims):
        items.append(
            f"<li><b>not tried</b>{len(claims) - len(tried)} of {len(claims)}: they need rows that were not run</li>"
        )
    return f'<h2>What the paper claims</h2><ul class="findings">{"".join(items)}</ul>' if items else ""


def _table(table: Table, outcomes: Outcomes) -> str:
    """The table: our figures, then the paper's; the best of each column is emphasised."""
    rows, means, columns = rows_run(table, outcomes), means_of(outcomes), paper_columns(table)
    best = [best_rows(rows, figure, means) for figure in table.figures]
    theirs = [best_rows(rows, figure, paper_values(table, name)) for name, figure in columns]
    head = ['<th scope="col"></th>']
    head += [f"<th scope='col'>{escape(figure)}<br><small>ours</small></th>" for figure in table.figures]
    head += [
        f"<th scope='col' class='paper'>{escape(figure)}<br><small>paper, {escape(name)}</small></th>"
        for name, figure in columns
    ]
    lines = []
    for row in rows:
        cells = [
            _cell(spread(figure, values_of(outcomes, row.name, figure)), row.name in best[i], "")
            for i, figure in enumerate(table.figures)
        ]
        cells += [
            _cell(formatted(figure, row.paper.get(name, {}).get(figure)), row.name in theirs[i], "paper")
            for i, (name, figure) in enumerate(columns)
        ]
        lines.append((f"{escape(row.name)}<br><small>{escape(row.title)}</small>", cells))
    return (
        table_of_cells(head, lines)
        + '<p class="meta">Bold: the best of each column, separately for rows with and without true labels.</p>'
    )


def _cell(text: str, best: bool, kind: str) -> str:
    classes = " ".join(filter(None, (kind, "best" if best else "")))
    return f'<td class="{classes}">{escape(text)}</td>' if classes else f"<td>{escape(text)}</td>"


def _charts(table: Table, outcomes: Outcomes) -> str:
    """Bar charts of the first figure by row: ours and those of the paper, each with its own scale."""
    rows, figure = rows_run(table, outcomes), table.figures[0]
    if len(rows) < 2:
        return ""
    ours = [(row.name, values_of(outcomes, row.name, figure)) for row in rows]
    written = partial(formatted, figure)
    charts = [bar_chart(f"{figure}, ours", ours, written=written)]
    for name, column in paper_columns(table):
        if column == figure:
            known = [
                (row.name, [row.paper[name][figure]]) for row in rows if figure in row.paper.get(name, {})
            ]
            charts.append(bar_chart(f"{figure}, paper, {name}", known, written=written, colour=1))
    return f'<h2>By row</h2><div class="charts">{"".join(charts)}</div>'
