"""A folder that was begun with some settings is not used for others."""

import json
from dataclasses import replace

import pytest

from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import RunError
from tunit.experiments import driver
from tunit.experiments.driver import run_row
from tunit.experiments.paper_tables import TABLE1
from tunit.experiments.plan import Plan, config_of, smoke
from tunit.experiments.reuse import check_same_settings

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

    monkeypatch.setattr(driver, "train_to_end", stop)
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
    "--smoke": smoke,
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


def test_the_table_keeps_the_rows_of_earlier_calls(plan, tmp_path, monkeypatch, capsys):
    """Rows A and G, then D, then calls in which B fails, the last with other settings than those of A, D and G."""
    figures = {"A": 11.25, "G": 22.5, "D": 33.75}

    def measured(table, row, plan, seed, say):
        if row.name == "B":
            raise RunError("broken")
        folder, split = plan.folder(table, row, seed), plan.pictures()
        check_same_settings(folder, row, plan, config_of(row, row.preset, plan, split, seed), split)
        outcome = {
            "row": row.name, "seed": seed, "figures": {"mFID": figures[row.name]}, "notes": [], "pictures": [12, 3],
            "features": plan.features, "settings": {"image size": 32, "steps": 8, "batch size": 4},
        }  # fmt: skip
        (folder / "outcome.json").write_text(json.dumps(outcome))
        return outcome

    monkeypatch.setattr(driver, "run_row", measured)
    words = ["reproduce", "table1", "--data", plan.data, "--out", tmp_path, "--base", plan.base]

    def shown(*more, code):
        assert main([str(word) for word in (*words, *more)]) == code
        lines = (tmp_path / "table1.md").read_text().splitlines()
        cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
        return {row[0]: row[2] for row in cells if row[0] in "ABCDEFG"}

    assert shown("--only", "A,G", code=0) == {"A": "11.2", "G": "22.5"}
    all_three = {"A": "11.2", "D": "33.8", "G": "22.5"}
    assert shown("--only", "D", code=0) == all_three
    assert shown("--only", "B", code=2) == all_three
    assert shown("--only", "B", "--sources", "5", code=2) == all_three
    assert "G is left out of the table: " in capsys.readouterr().err


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
        patch.setattr(driver, "labels_for", lambda *words, **more: {})
        begin(plan, "D", patch)
        with pytest.raises(RunError, match=r"begun with --cluster-features random-vgg16, and .* moco now"):
            run_row(TABLE1, ROWS["D"], replace(plan, cluster_features="moco"), 0, print)


def test_rows_of_older_versions_are_taken_and_a_damaged_note_is_one_sentence(plan, tmp_path, monkeypatch):
    plan = replace(plan, out=tmp_path)
    begin(plan, "G", monkeypatch)
    noted = plan.folder(TABLE1, ROWS["G"], 0) / "row.json"
    noted.unlink()
    begin(smoke(plan), "G", monkeypatch)
    assert not noted.exists()  # what it was begun with is not known
    noted.write_text(json.dumps([1]))
    with pytest.raises(RunError, match=r"row\.json is damaged .*: remove its folder"):
        run_row(TABLE1, ROWS["G"], plan, 0, print)
