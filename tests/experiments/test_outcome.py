"""Results: means and standard deviations, the best rows, the paper's claims tested on its own figures, and
the page.
"""

import json
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import DataError, RunError
from tunit.experiments import driver
from tunit.experiments.experiment import Experiment, Ordering, Table
from tunit.experiments.outcome import notes_of, write_outcome
from tunit.experiments.outcome_file import read_outcome
from tunit.experiments.paper_tables import CLUSTERING, FIGURE4, TABLE1, TABLE2, TABLE3, TABLES
from tunit.experiments.plan import Plan
from tunit.experiments.summary import (
    best_rows,
    claims_of,
    judged,
    means_of,
    paper_columns,
    paper_values,
    spread,
)

pytestmark = pytest.mark.usefixtures("narrow_vgg")

SETTINGS = {"image size": 32, "steps": 8, "batch size": 4, "domains": 3}
VOID = {"meta", "link", "br", "img"}


def outcome(row, seed=0, settings=None, **figures):
    figures = {name.replace("_", " "): value for name, value in figures.items()}
    return {
        "row": row,
        "seed": seed,
        "figures": figures,
        "notes": [],
        "features": "random-vgg16",
        "pictures": [39, 9],
        "settings": SETTINGS | (settings or {}),
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"settings": {}}, {"settings": SETTINGS | {"steps": "8"}}, {"settings": SETTINGS | {"overclusters": None}},
        {"settings": SETTINGS | {"marginal balance": []}}, {"pictures": [39]}, {"pictures": [39, -1]}, {"seed": "0"},
        {"figures": {"FID": "1"}}, {"figures": {"FID": 10**400}}, {"figures": []}, {"row": None}, {"notes": [1]},
        {"trained_on": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_result_is_one_sentence(tmp_path, damage):
    path = tmp_path / "outcome.json"
    path.write_text(json.dumps(outcome("A", FID=3, accuracy=float("nan"))))
    assert read_outcome(path)["row"] == "A"
    path.write_text(json.dumps(outcome("A", FID=3) | damage))
    with pytest.raises(RunError, match=r"is damaged .*: remove it to have its row measured again"):
        read_outcome(path)


def test_fewer_labels_than_the_title_says_are_noted(tmp_path):
    def written(*had):
        outcomes = [outcome("attribute", seed, settings) for seed, settings in enumerate(had)]
        return write_outcome(FIGURE4, Plan(tmp_path / "data", tmp_path), outcomes)[0].read_text()

    note = "a class has only 13 training pictures, so not 35 of each had a label"
    assert f"- attribute: {note}" in written({"labels of a class": 35}, {"labels of a class": 13})
    assert "had a label" not in written({"labels of a class": 35})
    assert "had a label" not in written({})  # an older version did not count them


class Checker(HTMLParser):
    """Checks that tags are closed in order; collects all text and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.addresses, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    return checker


# The data sets for which the paper claims an order of methods.
@pytest.mark.parametrize("name", ["AnimalFaces-10", "Food-10"])
@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_papers_own_figures_confirm_its_claims(table, name):
    values = {row.name: row.paper.get(name, {}) for row in table.rows}
    claims = [judged(ordering, values) for ordering in table.orderings]
    assert all(claim.found for claim in claims if claim.found is not None)
    if table in (CLUSTERING, TABLE1, TABLE2, TABLE3):
        assert claims
        assert all(claim.found for claim in claims)


def test_claims_can_fail():
    """With the figures of table 1 inverted, none of these claims is confirmed."""
    values = {row.name: row.paper["AnimalFaces-10"] for row in TABLE1.rows}
    turned = {row: {figure: 1 / value for figure, value in of.items()} for row, of in values.items()}
    found = [judged(ordering, turned).found for ordering in TABLE1.orderings]
    assert found[1:] == [False, False, False]


@pytest.mark.parametrize(("g", "found"), [(109.9, True), (110.0, True), (110.2, False)])
def test_a_factor_includes_its_limit(g, found):
    ordering = Ordering("near", "mFID", ("G",), ("B",), 1.1)
    claim = judged(ordering, {"G": {"mFID": g}, "B": {"mFID": 100.0001}})
    assert claim.found is found
    assert f"{g:.1f} (G), 100.0 (B)" in claim.detail


def test_the_same_rows_on_both_sides_limit_largest_over_smallest():
    values = {name: {"mFID": value} for name, value in (("a", 60.0), ("b", 50.0), ("c", 74.0))}
    for factor, found in ((1.49, True), (1.47, False)):
        assert (
            judged(Ordering("flat", "mFID", ("a", "b", "c"), ("a", "b", "c"), factor), values).found is found
        )


def test_equal_values_have_no_order_and_missing_rows_are_not_tried():
    ordering = Ordering("better", "mFID", ("a",), ("b",))
    assert judged(ordering, {"a": {"mFID": 1.0}, "b": {"mFID": 1.0}}).found is False
    claim = judged(ordering, {"a": {"mFID": 1.0}, "b": {"accuracy": 1.0}})
    assert (claim.found, claim.verdict, claim.detail) == (None, "not tried", "no mFID of b")


def test_means_standard_deviations_and_seeds():
    values = [10.0, 12.0, 17.0]
    outcomes = [outcome("B", seed, mFID=20.0) for seed in range(3)]
    outcomes += [outcome("G", seed, mFID=value) for seed, value in enumerate(values)]
    outcomes.append(outcome("A", 0, mFID=float("nan")))
    means = means_of(outcomes)
    assert means["G"]["mFID"] == pytest.approx(13.0)
    assert means.get("A", {}) == {}
    assert spread("mFID", values) == f"13.0 ± {statistics.stdev(values):.1f}"
    assert spread("accuracy", [0.5]) == "0.500"
    outcomes[-2]["figures"]["mFID"] = 25.0  # one seed of three is more than a tenth above B
    (claim,) = [c for c in claims_of(TABLE1, outcomes) if "without labels" in c.words]
    assert claim.found
    assert claim.detail.endswith("in 2 of 3 seeds")


def test_the_best_rows_match_the_papers_bold_type():
    rows = {row.name: row for row in TABLE1.rows}

    def best(figure):
        return best_rows(rows.values(), figure, paper_values(TABLE1, "AnimalFaces-10"))

    assert best("mFID") == {"B", "F"}  # with labels, without
    assert best("mean coverage") == {"B", "G"}
    assert best("accuracy") == {"A", "B", "F"}
    number = "effective number of domains"
    assert best_rows(rows.values(), number, {name: {number: i} for i, name in enumerate(rows)}) == set()
    assert best_rows([rows["G"]], "mFID", {"G": {"mFID": 1.0}}) == set()


def test_columns_that_are_empty_in_the_paper_are_not_printed():
    assert ("Food-101", "accuracy") not in paper_columns(TABLE3)
    assert [name for name, _ in paper_columns(TABLE3)] == [
        "AnimalFaces-10",
        "AnimalFaces-149",
        "Food-10",
        "Food-101",
    ]


def test_the_page_loads_nothing_and_escapes_all_text(tmp_path):
    rows = (
        Experiment("a <b>", "one & two", "paper", paper={"Set <1>": {"mFID": 3.0}}),
        Experiment('"c"', "", "paper", paper={"Set <1>": {"mFID": 2.0}}),
    )
    orderings = (Ordering("<i>lower</i>", "mFID", ('"c"',), ("a <b>",)),)
    table = Table(
        "odd", "A <script>alert(1)</script>", ("mFID",), rows, map_of=("a <b>",), orderings=orderings
    )
    outcomes = [outcome("a <b>", mFID=2.0), outcome('"c"', mFID=1.0)]
    _, page = write_outcome(table, Plan(Path("x<y>"), tmp_path), outcomes)
    found = read(page.read_text("utf-8"))
    assert "script" not in found.tags
    assert "b" in found.tags  # from the sentence of the verdict
    assert "i" not in found.tags
    assert all(address.startswith(("data:", "odd/")) for address in found.addresses)
    text = "".join(found.text)
    assert "A <script>alert(1)</script>" in text
    assert "<i>lower</i>" in text
    assert "found" in text


def test_the_page_and_the_markdown_agree(tmp_path):
    outcomes = [
        outcome(name, seed, mFID=10.0 + i + seed, accuracy=0.5)
        for i, name in enumerate("BCDEFG")
        for seed in (0, 1)
    ]
    markdown, page = write_outcome(TABLE1, Plan(Path("data"), tmp_path), outcomes)
    text, html = markdown.read_text("utf-8"), page.read_text("utf-8")
    for cell in ("10.5 ± 0.7", "15.5 ± 0.7", "47.7"):
        assert cell in text
        assert cell in html
    assert "- not found: TUNIT beats clustering beforehand (mFID 15.5 (G), 11.5 (C); in 0 of 2 seeds)" in text
    assert "not tried: 1 of 4, because they need rows" in text
    assert html.count("<svg") == 3  # our figures and two data sets of the paper
    assert "prefers-color-scheme:dark" in html
    assert 'name="viewport"' in html
    read(html)


def test_a_name_with_a_vertical_bar_stays_in_its_column(tmp_path):
    table = Table("odd", "Odd names", ("mFID",), (Experiment("a|b", "one|two", "paper"),))
    markdown, _ = write_outcome(table, Plan(Path("data"), tmp_path), [outcome("a|b", mFID=2.0)])
    assert "| a\\|b | one\\|two | 2.0 |" in markdown.read_text("utf-8")


def test_maps_are_linked_for_rows_that_have_one(tmp_path):
    outcomes = [outcome("K = 10", mFID=1.0), outcome("K = 4", mFID=1.0), outcome("K = 20", mFID=1.0)]
    expected = Plan(Path("data"), tmp_path).folder(TABLE2, TABLE2.rows[3], 0) / "run" / "report.html"
    expected.parent.mkdir(parents=True)
    expected.touch()  # the row K = 20 has no report
    _, page = write_outcome(TABLE2, Plan(Path("data"), tmp_path), outcomes)
    found = read(page.read_text("utf-8"))
    assert [a for a in found.addresses if a.endswith("report.html")] == [str(expected.relative_to(tmp_path))]


def test_the_map_is_of_the_first_seed_that_succeeded(tmp_path, monkeypatch, capsys):
    for i, name in enumerate("ab"):
        write_pictures(tmp_path / "data" / name, seed=i, number=5)

    def failing(table, row, plan, seed, say, split):
        if seed == 0:
            raise DataError("broken")
        return outcome(row.name, seed, mFID=1.0)

    mapped = []

    def report(run):
        mapped.append(run)
        run.mkdir(parents=True)
        (run / "report.html").touch()

    monkeypatch.setattr(driver, "run_row", failing)
    monkeypatch.setattr("tunit.reporting.write.write_report", report)
    words = [
        "table2",
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "out",
        "--only",
        "K = 10",
        "--seeds",
        "3",
    ]
    assert main(["reproduce", *map(str, words)]) == 2
    assert "1 of 3 trainings failed" in capsys.readouterr().err
    assert [run.relative_to(tmp_path / "out") for run in mapped] == [Path("table2/k---10/seed-1/run")]
    found = read((tmp_path / "out/table2.html").read_text("utf-8"))
    assert "table2/k---10/seed-1/run/report.html" in found.addresses


def test_the_picture_of_figure_4_is_inside_the_page(tmp_path):
    table = TABLES["figure4"]
    plan = Plan(Path("data"), tmp_path)
    picture = plan.folder(table, table.rows[0], 0) / "run" / "attribute.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG")
    _, page = write_outcome(table, plan, [outcome("attribute", accuracy=0.5)])
    assert any(a.startswith("data:image/png;base64,iVBORw") for a in read(page.read_text()).addresses)


@pytest.mark.parametrize(("said", "names"), [({}, "C, F"), ({"accuracy of labels": False}, "C")])
def test_the_note_tells_accuracy_of_labels_from_accuracy_of_domains(tmp_path, said, names):
    """Outcomes of older versions do not say it: then it was that of labels in all rows with labels."""
    outcomes = [outcome("C", accuracy=0.5), outcome("F", accuracy=0.5) | said, outcome("G", accuracy=0.5)]
    markdown, _ = write_outcome(TABLE1, Plan(Path("data"), tmp_path), outcomes)
    assert f"- accuracy of {names}: of the labels that these rows train with" in markdown.read_text("utf-8")


def test_held_back_pictures_that_were_trained_on_are_noted_in_the_table(tmp_path):
    for i, name in enumerate(("apples", "pears")):
        write_pictures(tmp_path / "in" / name, seed=i, number=8)
    given = ["--data", tmp_path / "in", "--only", "G", "--smoke", "--threads", "1"]
    told = "G: 16 of the 16 pictures were trained on: figures are fair only for pictures held back"
    for out, held_back in ((tmp_path / "fair", []), (tmp_path / "unfair", ["--held-back", tmp_path / "in"])):
        assert main(["reproduce", "table1", *map(str, [*given, *held_back, "--out", out])]) == 0
        for name in ("table1-smoke.md", "table1-smoke.html"):
            assert (told in (out / name).read_text("utf-8")) == bool(held_back)


def test_rows_with_the_same_note_share_a_line(tmp_path):
    """Outcomes of older versions say it only among their notes."""
    words = "1 of the 9 pictures was trained on"
    note = f"{words}: figures are fair only for pictures held back"
    outcomes = [
        outcome(row, seed) | said
        for row, said in (("A", {"notes": [note, "IOI: no"]}), ("G", {"trained_on": words}))
        for seed in (0, 1)
    ]
    markdown, _ = write_outcome(TABLE1, Plan(Path("data"), tmp_path), [*outcomes, outcome("B")])
    assert [line for line in markdown.read_text("utf-8").splitlines() if note in line] == [f"- A, G: {note}"]


def test_parts_that_help_clustering_are_named():
    plain = notes_of(Plan(Path("d"), Path("o")), [outcome("IIC")])
    assert not any("over-clustering" in note for note in plain)
    more = {"candidate heads": 5, "overclusters": 30, "marginal balance": 1.75}
    notes = notes_of(Plan(Path("d"), Path("o")), [outcome("IIC", settings=more)])
    (note,) = [note for note in notes if "Ji et al. 2019" in note]
    assert "5 further domain heads" in note
    assert "30 clusters" in note
    assert "1.75" in note


@pytest.mark.parametrize(("rows", "used"), [("G", False), ("DG", True)])
def test_the_network_of_k_means_is_named_only_if_a_row_used_it(tmp_path, rows, used):
    plan = Plan(Path("data"), tmp_path, cluster_features="/x/moco.pth.tar")
    markdown, _ = write_outcome(TABLE1, plan, [outcome(row) for row in rows])
    assert ("k-means on features used those of moco.pth.tar" in markdown.read_text("utf-8")) is used


def test_without_any_results_there_is_a_page_too(tmp_path):
    _, page = write_outcome(TABLE1, Plan(Path("data"), tmp_path), [])
    assert "nothing was run" in "".join(read(page.read_text()).text)
