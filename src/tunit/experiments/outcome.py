"""The results of a table beside the paper's figures: as Markdown, and as an HTML page (table_page.py)."""

from pathlib import Path

from tunit.evaluation.result import UNFAIR, trained_on_of
from tunit.experiments.attribute import PICTURE
from tunit.experiments.experiment import FEATURES, Experiment, Table
from tunit.experiments.outcome_file import ACCURACY_OF_LABELS, LABELS_OF_A_CLASS, OUTCOME
from tunit.experiments.plan import Plan
from tunit.experiments.summary import (
    Claim,
    Outcomes,
    claims_of,
    formatted,
    paper_columns,
    rows_run,
    spread,
    values_of,
)
from tunit.experiments.table_page import render
from tunit.files.atomic import writable, write_text
from tunit.files.result_names import REPORT
from tunit.printing import printable

PAPER_SETTING = "128 px, 200,000 steps of 32 pictures, Inception features (legacy pre-processing)"


def write_outcome(table: Table, plan: Plan, outcomes: Outcomes) -> tuple[Path, Path]:
    """Write OUT/TABLE.md and OUT/TABLE.html, with links to the reports that exist; returns their paths."""
    notes = notes_of(plan, outcomes) + _accuracy_notes(table, outcomes) + _few_notes(table, outcomes)
    notes += _cluster_notes(table, plan, outcomes) + _trained_on_notes(table, outcomes)
    claims = claims_of(table, outcomes)
    with writable(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    name = plan.name_of(table)
    paths = plan.out / f"{name}.md", plan.out / f"{name}.html"
    write_text(paths[0], _markdown(table, outcomes, notes, claims))
    runs = [(row, run_shown(table, plan, row, outcomes)) for row in rows_run(table, outcomes)]
    links = {
        row.name: str((run / REPORT).relative_to(plan.out))
        for row, run in runs
        if row.name in table.map_of and (run / REPORT).is_file()
    }
    pictures = [run / PICTURE for row, run in runs if row.strengths]
    write_text(paths[1], render(table, outcomes, notes, claims, links=links, pictures=pictures))
    return paths


def lacks_report(run: Path) -> bool:
    """Whether a row's run has no report yet, or one that is older than the row's figures."""
    report, done = run / REPORT, run.parent / OUTCOME
    if not report.is_file() or not done.is_file():
        return True
    return report.stat().st_mtime_ns < done.stat().st_mtime_ns


def run_shown(table: Table, plan: Plan, row: Experiment, outcomes: Outcomes) -> Path:
    """The run of a row whose pictures are shown: that of the first seed that succeeded."""
    seed = min(outcome["seed"] for outcome in outcomes if outcome["row"] == row.name)
    return plan.folder(table, row, seed) / "run"


def _markdown(table: Table, outcomes: Outcomes, notes: list[str], claims: list[Claim]) -> str:
    columns = paper_columns(table)
    head = ["", "configuration", *table.figures, *(f"{figure}, paper {name}" for name, figure in columns)]
    lines = [f"# {table.title}", "", *(f"- {note}" for note in notes), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows_run(table, outcomes):
        ours = [spread(figure, values_of(outcomes, row.name, figure)) for figure in table.figures]
        theirs = [formatted(figure, row.paper.get(name, {}).get(figure)) for name, figure in columns]
        # A row that a user has added has the name of its file, and its title names his settings.
        named = [text.replace("|", "\\|") for text in (row.name, row.title)]
        lines.append("| " + " | ".join([*named, *ours, *theirs]) + " |")
    tried = [claim for claim in claims if claim.found is not None]
    if claims:
        lines += ["", "What the paper claims, in our figures:", ""]
        lines += [f"- {claim.verdict}: {claim.words} ({claim.detail})" for claim in tried]
        if len(tried) < len(claims):
            lines.append(
                f"- not tried: {len(claims) - len(tried)} of {len(claims)}, because they need rows that were not run"
            )
    return "".join(printable(line) + "\n" for line in lines)


def notes_of(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Notes on how our setting differs from the paper's."""
    if not outcomes:
        return ["nothing was run"]
    first = outcomes[0]
    train, held = first["pictures"]
    seeds = len({o["seed"] for o in outcomes})

    def listed(name: str) -> str:
        """The values of a setting in all rows, such as "3,000 or 3,763"."""
        return " or ".join(f"{value:,}" for value in sorted({o["settings"][name] for o in outcomes}))

    notes = [
        f"ours: {plan.data.name}, {train:,} training and {held:,} held-back pictures, {listed('image size')} px, "
        f"{listed('steps')} steps of {listed('batch size')} pictures, base preset {plan.base}, "
        f"{first['features']} features, {seeds} seed{'s' if seeds > 1 else ''}",
        f"the paper: {PAPER_SETTING}",
        "figures of different pictures, sizes and feature networks cannot be compared: look at the order of the rows",
        "± is the standard deviation over seeds",
    ]
    return notes + _additions(outcomes)


def _accuracy_notes(table: Table, outcomes: Outcomes) -> list[str]:
    """A note on the rows whose accuracy is not one of held-back pictures."""
    if "accuracy" not in table.figures:
        return []
    # Before outcomes said it, rows E and F had the accuracy of their labels, too.
    given = {row.name: row.all_labels for row in table.rows}
    rows = {o["row"] for o in outcomes if o.get(ACCURACY_OF_LABELS, given.get(o["row"], False))}
    names = [row.name for row in table.rows if row.name in rows]
    if not names:
        return []
    return [
        f"accuracy of {', '.join(names)}: of the labels that these rows train with, on training pictures; of other "
        "rows: of E's domains, on held-back pictures"
    ]


def _cluster_notes(table: Table, plan: Plan, outcomes: Outcomes) -> list[str]:
    """A note on the network of k-means, if it was given and a row used it."""
    if not plan.cluster_features or all(row.labels != FEATURES for row in rows_run(table, outcomes)):
        return []
    return [f"k-means on features used those of {Path(plan.cluster_features).name}"]


def _few_notes(table: Table, outcomes: Outcomes) -> list[str]:
    """A note on each row that had fewer labels of a class than it takes."""
    notes = []
    for row in table.rows:
        wanted = row.labelled_of_class
        had = [o["settings"].get(LABELS_OF_A_CLASS, wanted) for o in outcomes if o["row"] == row.name]
        if had and min(had) < wanted:
            notes.append(
                f"{row.name}: a class has only {min(had):,} training pictures, so not {wanted:,} of each had a label"
            )
    return notes


def _trained_on_notes(table: Table, outcomes: Outcomes) -> list[str]:
    """A note on evaluations on pictures that rows were trained on, with the names of these rows."""
    names: dict[str, list[str]] = {}
    for row in rows_run(table, outcomes):
        said = {trained_on_of(o) for o in outcomes if o["row"] == row.name} - {""}
        for words in sorted(said):
            names.setdefault(words, []).append(row.name)
    return [f"{', '.join(rows)}: {words}: {UNFAIR}" for words, rows in names.items()]


def _additions(outcomes: Outcomes) -> list[str]:
    """Settings that help E to find domains, but are not in TUNIT's paper."""
    settings = [outcome["settings"] for outcome in outcomes]
    found = []
    heads = max(s.get("candidate heads", 0) for s in settings)
    overclusters = max(s.get("overclusters", 0) for s in settings)
    balance = max(s.get("marginal balance", 1.0) for s in settings)
    if heads:
        found.append(f"{heads} further domain heads, of which the best is kept")
    if overclusters:
        found.append(f"an overclustering head of {overclusters} clusters")
    if balance != 1:
        found.append(f"a factor of {balance:g} on the marginal entropies")
    if not found:
        return []
    return [
        f"E has {' and '.join(found)}, as in IIC (Ji et al. 2019: sub-heads, over-clustering, lambda) but not in "
        "TUNIT's paper; rows named after IIC or mutual information have this, too"
    ]
