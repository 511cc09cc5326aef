"""A folder that was begun with some settings is not used for others."""

import json
from dataclasses import replace

import pytest

from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import RunError
from tunit.experiments import driver, one_row
from tunit.experiments.one_row import run_row
from tunit.experiments.paper_tables import TABLE1
from tunit.experiments.plan import Plan, config_of, smoke
from tunit.experiments.reuse import check_same_settings

pytestmark = pytest.mark.usefixtures("narrow_vgg")
ROWS = {row.name: row for row in TABLE1.rows}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reuse")
    for part in ("data", "other", "held"):
        for i, name in enumerate("abc"):
            write_pictures(folder / part / name, seed=i, number=5)
    return Plan(folder / "data", folder / "out", base="tables-32")


def begin(plan, row, monkeypatch):
    """Begin a row; it stops before its training."""

    def stop(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(one_row, "train_to_end", stop)
    with pytest.raises(KeyboardInterrupt):
        run_row(TABLE1, ROWS[row], plan, 0, print)


CHANGED = {
    "--data": lambda plan: replace(plan, data=plan.data.parent / "other"),
    "--held-back": lambda plan: replace(plan, held_back=plan.data.parent / "held"),
    "--between": lambda plan: replace(plan, classes=("b", "a", "c")),
    "--features": lambda plan: replace(plan, features="inception"),
    "--preprocessing": lambda plan: replace(plan, preprocessing="legacy"),
    "--sources": lambda plan: replace(plan, most_sources=5),
    "--steps": lambda plan: replace(plan, overrides=(("steps", "1000"),)),
}


@pytest.mark.parametrize("flag", CHANGED)
def test_a_setting_that_differs_is_named(plan, tmp_path, monkeypatch, flag):
    plan = replace(plan, out=tmp_path)
    begin(plan, "G", monkeypatch)
    folder = plan.folder(TABLE1, ROWS["G"], 0)
    (folder / "outcome.json").write_text("{}")  # refused before it is read
    with pytest.raises(RunError, match=f"was begun with {flag} .*: give another --out"):
        run_row(TABLE1, ROWS["G"], CHANGED[flag](plan), 0, print)


def test_the_command_refuses_at_once_and_leaves_the_table_as_it_is(plan, tmp_path, monkeypatch, capsys):
    begin(replace(plan, out=tmp_path), "G", monkeypatch)
    (tmp_path / "table1.md").write_text("results")
    words = [
        "--data",
        plan.data,
        "--out",
        tmp_path,
        "--base",
        plan.base,
        "--only",
        "B,G",
        "--features",
        "inception",
    ]
    assert main(["reproduce", "table1", *map(str, words)]) == 2
    err = capsys.readouterr().err
    assert "was begun with --features random-vgg16, and --features is inception now" in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "table1.md").read_text() == "results"


FIGURES = {"A": 11.25, "C": 44.5, "G": 22.5, "D": 33.75}


def measured(table, row, plan, seed, say, split):
    """As `run_row`, without a training; row B fails."""
    if row.name == "B":
        raise RunError("broken")
    folder = plan.folder(table, row, seed)
    check_same_settings(folder, row, plan, config_of(row, row.preset, plan, split, seed), split)
    outcome = {
        "row": row.name, "seed": seed, "figures": {"mFID": FIGURES.get(row.name, 1.0)}, "notes": [],
        "pictures": [12, 3], "features": plan.features,
        "settings": {"image size": 32, "steps": 8, "batch size": 4},
    }  # fmt: skip
    if not (folder / "outcome.json").is_file():
        (folder / "outcome.json").write_text(json.dumps(outcome))
    return outcome


@pytest.fixture
def shown(plan, tmp_path, monkeypatch):
    """Runs `tunit reproduce` in tmp_path without trainings; returns the rows of TABLE.md with their mFID."""
    monkeypatch.setattr(driver, "run_row", measured)

    def call(*more, code, table="table1"):
        words = ["reproduce", table, "--data", plan.data, "--out", tmp_path, "--base", plan.base, *more]
        assert main([str(word) for word in words]) == code
        lines = (tmp_path / f"{table}.md").read_text().splitlines()
        cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
        return {row[0]: row[2] for row in cells[1:]}

    return call


def test_the_table_keeps_the_rows_of_earlier_calls(plan, tmp_path, shown, capsys):
    """Rows A and G, then D, then a call in which B fails, then calls with other settings than those of A, D and G."""
    assert shown("--only", "A,G", code=0) == {"A": "11.2", "G": "22.5"}
    all_three = {"A": "11.2", "D": "33.8", "G": "22.5"}
    assert shown("--only", "D", code=0) == all_three
    assert shown("--only", "B", code=2) == all_three
    capsys.readouterr()
    assert shown("--only", "C", "--sources", "5", code=2) == all_three
    err = capsys.readouterr().err
    assert "a/seed-0 was begun with --sources 0, and --sources is 5 now: give another --out" in err
    assert len(err.splitlines()) == 1
    assert not replace(plan, out=tmp_path).folder(TABLE1, ROWS["C"], 0).exists()


def test_a_smoke_test_has_a_table_of_its_own(tmp_path, shown):
    two = shown("--only", "A,G", code=0)
    assert shown("--only", "A,C", "--smoke", code=0) == two
    assert "44.5" in (tmp_path / "table1-smoke.md").read_text()
    assert shown("--only", "D", code=0) == two | {"D": "33.8"}


def test_a_smoke_test_translates_a_few_sources_or_as_many_as_are_asked_for(plan):
    assert smoke(plan).most_sources == 8
    assert smoke(replace(plan, most_sources=3)).most_sources == 3


def test_finished_rows_without_a_note_are_left_out_unless_asked_for_and_get_none(
    plan, tmp_path, shown, capsys
):
    shown("--only", "A,G", code=0)
    folder = replace(plan, out=tmp_path).folder(TABLE1, ROWS["G"], 0)
    (folder / "row.json").unlink()
    assert shown("--only", "D", code=0) == {"A": "11.2", "D": "33.8"}
    assert "G is left out of the table: " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["outcome.json"]
    assert shown("--only", "G", code=0) == {"A": "11.2", "D": "33.8", "G": "22.5"}
    assert [path.name for path in folder.iterdir()] == ["outcome.json"]


def test_only_reports_of_rows_of_the_call_are_written(tmp_path, shown, monkeypatch, capsys):
    tried = []

    def report(run):
        tried.append(run.parent.parent.name)
        if tried[-1] == "k---20":
            raise RunError("holds no model")
        run.mkdir(exist_ok=True)
        (run / "report.html").touch()

    monkeypatch.setattr("tunit.reporting.write.write_report", report)
    shown("--only", "K = 10,K = 20", code=0, table="table2")
    assert "there is no map of styles of K = 20: holds no model" in capsys.readouterr().err
    assert tried == ["k---10", "k---20"]
    assert list(shown("--only", "K = 1", code=0, table="table2")) == ["K = 1", "K = 10", "K = 20"]
    shown("--only", "K = 10", code=0, table="table2")  # finished before, with a report
    assert tried == ["k---10", "k---20"]
    page = (tmp_path / "table2.html").read_text()
    assert "k---10/seed-0/run/report.html" in page
    assert "k---20/seed-0/run/report.html" not in page


def test_settings_of_the_machine_and_of_other_rows_may_differ(plan, tmp_path, monkeypatch):
    plan = replace(plan, out=tmp_path)
    begin(plan, "G", monkeypatch)
    others = (("threads", "1"), ("device", "cpu"), ("log_every", "7"))
    begin(replace(plan, overrides=others, cluster_features="inception", seeds=3), "G", monkeypatch)


def test_a_row_does_not_go_on_with_other_pictures(tmp_path, monkeypatch):
    for i, name in enumerate("ab"):
        write_pictures(tmp_path / "data" / name, seed=i, number=5)
    plan = Plan(tmp_path / "data", tmp_path / "out", base="tables-32")
    begin(plan, "G", monkeypatch)
    begin(plan, "G", monkeypatch)
    new = tmp_path / "data" / "a" / "new.png"
    new.write_bytes((tmp_path / "data" / "a" / "000.png").read_bytes())
    with pytest.raises(RunError, match=r"begun with other pictures or classes than .*: give another --out"):
        run_row(TABLE1, ROWS["G"], plan, 0, print)
    noted = plan.folder(TABLE1, ROWS["G"], 0) / "row.json"
    known = json.loads(noted.read_text())
    del known["pictures"]  # a note of an older version
    noted.write_text(json.dumps(known))
    begin(plan, "G", monkeypatch)
    new.unlink()
    begin(plan, "G", monkeypatch)


def test_the_network_for_k_means_must_be_the_same(plan, tmp_path, monkeypatch):
    plan = replace(plan, out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(one_row, "labels_for", lambda *words, **more: {})
        begin(plan, "D", patch)
        with pytest.raises(RunError, match=r"begun with --cluster-features random-vgg16, and .* moco now"):
            run_row(TABLE1, ROWS["D"], replace(plan, cluster_features="moco"), 0, print)


def test_rows_of_older_versions_are_taken_and_a_damaged_note_is_one_sentence(plan, tmp_path, monkeypatch):
    plan = replace(plan, out=tmp_path)
    begin(plan, "G", monkeypatch)
    noted = plan.folder(TABLE1, ROWS["G"], 0) / "row.json"
    noted.unlink()
    begin(replace(plan, most_sources=5), "G", monkeypatch)
    assert not noted.exists()  # what it was begun with is not known
    noted.write_text(json.dumps([1]))
    with pytest.raises(RunError, match=r"row\.json is damaged .*: remove its folder"):
        run_row(TABLE1, ROWS["G"], plan, 0, print)
