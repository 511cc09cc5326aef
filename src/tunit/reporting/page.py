"""Render the contents of a report as one self-contained HTML file."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from tunit.evaluation.against_trivial import COLUMNS
from tunit.pages.charts import Series, line_chart, number
from tunit.pages.document import bullets, data_script, document, section, short_name, table, table_of_cells
from tunit.pages.embedded import THUMBNAIL, img, sprite_sheet
from tunit.printing import escape, numbered, printable
from tunit.reporting.contents import Case, Contents, DomainShown
from tunit.reporting.figure_rows import figure_rows, measured_on
from tunit.reporting.off_topic import rendered
from tunit.training.logs.neighbours_found import sentence_of_measures
from tunit.training.trainer import MEASURED

ON_TRAINING = "Pictures and figures of this page are of the training pictures, unless it says otherwise."
# Of the curves.
ON_HELD_BACK = (
    'Curves of an "evaluation" are of held-back pictures if the run was given any, else of training ones.'
)
_TITLE = ": what tunit found"  # the end of the page's title
_HEAD = 1 << 13  # the title ends within this many bytes


def render(contents: Contents) -> str:
    """The whole page as text. It loads nothing from the network."""
    sections = [
        _summary(contents),
        _alarms(contents),
        _figures(contents),
        _beside(contents),
        _number(contents),
        _domains(contents),
        _matrix(contents),
        _crossed(contents),
        _map(contents),
        _cases(contents),
        _curves(contents),
        _settings(contents),
    ]
    script = files("tunit.reporting").joinpath("map.js").read_text("utf-8")
    return document(contents.title + _TITLE, "".join(sections), script=script)


def is_report(path: Path) -> bool:
    """Whether a file is a page of `render`. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.startswith(b"<!doctype html>") and f"{_TITLE}</title>".encode() in head


def _summary(c: Contents) -> str:
    used = len(c.domains) + c.hidden_domains
    facts = [
        (
            f"{c.pictures:,}",
            "training pictures" + (f", {c.looked:,} of them looked at" if c.looked < c.pictures else ""),
        ),
        (f"{used}", f"of {c.config.networks.domains} domains in use"),
        (number(c.effective), "effective domains"),
        (f"{c.step:,}", "training steps"),
    ]
    if c.accuracy is not None:
        facts.append((f"{c.accuracy:.1%}", "of the training pictures with a known class match it"))
    cards = "".join(f'<div class="card"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in facts)
    remarks = "".join(
        f'<li class="{"serious" if finding.serious else "mild"}">{escape(finding.text)}</li>'
        for finding in c.findings
    )
    remarks = f'<ul class="findings">{remarks}</ul>' if remarks else '<p class="fine">No warnings.</p>'
    on = f'<p class="fine">{ON_TRAINING}</p>'
    return f"<header><h1>{escape(c.title)}</h1><div class='cards'>{cards}</div>{on}{remarks}</header>"


def _alarms(c: Contents) -> str:
    lines = [
        f'<li class="{"serious" if alarm.over is None else "mild"}">Step {alarm.step:,}'
        f"{'' if alarm.over is None else f', over at step {alarm.over:,}'}: {escape(alarm.sentence)}. "
        f"What to do: {escape(alarm.remedy)}.</li>"
        for alarm in c.alarms
    ]
    body = f'<ul class="findings">{"".join(lines)}</ul>' if lines else ""
    return section(
        "alarms", "Alarms", "What went wrong in the training, when, and what to do about it.", body
    )


def _figures(c: Contents) -> str:
    if c.evaluation is None:
        return ""
    found = table(("figure", "value", "95 % interval", "pictures"), figure_rows(c.evaluation["figures"]))
    groups = c.evaluation.get("groups", {})
    names = list(dict.fromkeys(name for figures in groups.values() for name in figures))
    if names:
        of_groups = [
            (group, *(number(figures[n]["value"]) if n in figures else "-" for n in names))
            for group, figures in groups.items()
        ]
        found += table((c.evaluation.get("grouped_by", "group"), *names), of_groups)
    notes = c.evaluation.get("notes", [])
    if notes:
        found += bullets(map(escape, notes), "notes")
    network = c.evaluation.get("features")
    lead = f"Of {measured_on(c.evaluation)}, by `tunit evaluate`. Feature network: {network}."
    if any("FID" in name for name in c.evaluation["figures"]):
        lead += " Figures of other networks cannot be compared with these."
    measured = c.evaluation.get("step", c.step)
    if measured != c.step:
        lead += (
            f" These are figures of the model of step {measured:,}, not of the present one (step {c.step:,})."
        )
    return section("figures", "Figures", lead, found)


def _beside(c: Contents) -> str:
    if not c.beside.rows:
        return ""
    found = table(("", *COLUMNS.values()), c.beside.cells())
    note = f'<p class="fine">On {c.beside.pictures:,} of the training pictures, with as many groups as domains.</p>'
    return section(
        "beside", "Compared with trivial baselines, which need no training", c.beside.verdict, found + note
    )


def _number(c: Contents) -> str:
    if c.choice is None:
        return ""
    names = sorted({name for candidate in c.choice.candidates for name in candidate.votes})
    rows = [
        (f"{k.domains}", number(k.score), *(number(k.votes[n]) if n in k.votes else "-" for n in names))
        for k in c.choice.candidates
    ]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in c.choice.reasons)
    body = table(("domains", "score", *names), rows) + f'<ul class="notes">{reasons}</ul>'
    return section("number", "How many domains", f"{c.choice.headline}.", body)


def _domains(c: Contents) -> str:
    sources = "".join(img(pixels, f"source {i + 1}") for i, pixels in enumerate(c.sources))
    said = sentence_of_measures(c.neighbours)
    body = f'<p class="fine">{escape(said)}</p>' if said else ""
    body += f'<div class="strip sources"><span class="label">the sources</span>{sources}</div>'
    body += "".join(_domain(domain, c) for domain in c.domains)
    if c.hidden_domains:
        body += f"<p>{c.hidden_domains} smaller domains are not shown.</p>"
    body += rendered(c.off_topic, c.looked)
    lead = "Typical pictures of every domain, and the same few sources redrawn in the domain's average style."
    return section("domains", "Domains", lead, body)


def _domain(domain: DomainShown, c: Contents) -> str:
    share = domain.size / c.looked
    title = f"Domain {domain.number}" + (f": mostly {domain.name}" if domain.name else "")
    typical = "".join(
        img(pixels, f"typical picture of domain {domain.number}: {short_name(name)}")
        for name, pixels in domain.typical
    )
    redrawn = "".join(
        img(pixels, f"source {i + 1} in the average style of domain {domain.number}")
        for i, pixels in enumerate(domain.redrawn)
    )
    return (
        f'<article class="domain"><h3>{_dot(domain.number)}{escape(title)}</h3>'
        f'<p class="meta">{numbered(domain.size, "picture")}, {share:.1%}; '
        f"mean confidence {domain.confidence:.2f}</p>"
        f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f'<div class="strip">{typical}</div><p class="meta">sources in its average style</p>'
        f'<div class="strip">{redrawn}</div></article>'
    )


def _dot(k: int) -> str:
    return f'<i class="dot" data-domain="{k}"></i>'


def _grid(heads: list[str], rows: list[tuple[str, list[str]]]) -> str:
    head = ["<td></td>", *(f"<th scope='col'>{cell}</th>" for cell in heads)]
    return table_of_cells(
        head, ((first, [f"<td>{cell}</td>" for cell in cells]) for first, cells in rows), "pictures"
    )


def _matrix(c: Contents) -> str:
    heads = [img(pixels, f"reference {j + 1}", "head") for j, pixels in enumerate(c.references)]
    rows = [
        (
            img(c.sources[i], f"source {i + 1}", "head"),
            [
                img(pixels, f"source {i + 1} in the style of reference {j + 1}")
                for j, pixels in enumerate(row)
            ],
        )
        for i, row in enumerate(c.matrix)
    ]
    lead = "Each source (left) redrawn in the style of each reference (top): it keeps its pose and takes on the look."
    return section("matrix", "Sources by references", lead, _grid(heads, rows))


def _crossed(c: Contents) -> str:
    if len(c.crossed_numbers) < 2:
        return ""
    heads = [f"{_dot(k)}{k}" for k in c.crossed_numbers]
    rows = []
    for i, (k, row) in enumerate(zip(c.crossed_numbers, c.crossed, strict=True)):
        cells = [
            img(pixels, f"domain {k} in the average style of domain {other}")
            for other, pixels in zip(c.crossed_numbers, row, strict=True)
        ]
        first = (
            f"{_dot(k)}{k} {img(c.crossed_pictures[i], f'the most typical picture of domain {k}', 'head')}"
        )
        rows.append((first, cells))
    lead = "The most typical picture of each domain (left) in the average style of every domain (top)."
    return section("crossed", "Domain to domain", lead, _grid(heads, rows))


def _map(c: Contents) -> str:
    sheet, columns = sprite_sheet(c.point_pictures)
    classes = sorted(set(c.point_classes))
    data: dict[str, Any] = {
        "points": [[round(float(x), 4), round(float(y), 4)] for x, y in c.points],
        "names": [short_name(name) for name in c.point_names],
        "domains": c.point_domains,
        "classes": [classes.index(name) for name in c.point_classes],
        "classNames": [printable(name) for name in classes],
        "columns": columns,
        "thumbnail": THUMBNAIL,
        "sheet": sheet,
    }
    choice = ""
    if classes:
        choice = (
            '<div class="choice" role="group" aria-label="colour by">colour by '
            '<button type="button" data-by="domains" aria-pressed="true">domain</button>'
            '<button type="button" data-by="classes" aria-pressed="false">class</button></div>'
        )
    alt = (
        f"Map of {numbered(len(c.points), 'picture')} by style code: pictures near each other look alike. They fall "
        f"into {numbered(len(set(c.point_domains)), 'domain')}."
    )
    body = (
        f'{choice}<div class="map"><svg id="map" viewBox="0 0 1000 700" role="img" aria-label="{escape(alt)}"></svg>'
        '<div id="tip" role="status" hidden><div class="thumb"></div><span></span></div></div>'
        f'<div class="legend" id="map-legend"></div>{data_script("map-data", data)}'
    )
    lead = "Style codes laid out by t-SNE: pictures of similar style are near each other. Point at one to see it."
    return section("styles", "Map of styles", lead, body)


def _cases(c: Contents) -> str:
    body = "<h3>Best</h3>" + _case_row(c.best) + "<h3>Worst</h3>" + _case_row(c.worst)
    lead = "From random pairs: the translations whose styles are nearest to, and farthest from, their references'."
    return section("cases", "Best and worst cases", lead, body)


def _case_row(cases: list[Case]) -> str:
    cells = "".join(
        f'<figure class="case">{img(case.source, "source")}{img(case.reference, "reference")}'
        f"{img(case.result, 'the source in the style of the reference')}"
        f"<figcaption>cosine {case.cosine:.2f}</figcaption></figure>"
        for case in cases
    )
    return f'<p class="meta">source, reference, translation</p><div class="cases">{cells}</div>'


def _curves(c: Contents) -> str:
    groups: dict[str, list[Series]] = {}
    for name in dict.fromkeys(name for row in c.metrics for name in row if name != "step" and "/" in name):
        part, line = name.split("/", 1)
        rows = [row for row in c.metrics if name in row]
        series = (line.replace("_", " "), [row["step"] for row in rows], [row[name] for row in rows])
        # The losses of D share a chart, and so do those of G. Other values are of too different sizes to share one.
        groups.setdefault(
            part if part in ("discriminator", "generator") else f"{part}: {series[0]}", []
        ).append(series)
    charts = "".join(line_chart(title, series) for title, series in groups.items())
    lead = "How training went."
    if any(name.startswith(MEASURED) for row in c.metrics for name in row):
        lead += f" {ON_HELD_BACK}"
    return section("curves", "Curves", lead, f'<div class="charts">{charts}</div>' if charts else "")


def _settings(c: Contents) -> str:
    about = "".join(f"<dt>{escape(k)}</dt><dd>{escape(_text(v))}</dd>" for k, v in c.about.items())
    config = "\n".join(map(escape, c.config_text.split("\n")))
    body = f"<dl>{about}</dl><details><summary>All settings</summary><pre>{config}</pre></details>"
    return section("settings", "Settings and versions", "What this run was made with.", body)


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
