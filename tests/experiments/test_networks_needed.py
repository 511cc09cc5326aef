"""The feature networks of a table: they are loaded before the first training, and no row is finished without one."""

import json
from types import SimpleNamespace

import pytest

from tiny_run import tiny_config, write_pictures
from tunit.cli import main
from tunit.config import read_config
from tunit.errors import ConfigError, RunError
from tunit.evaluation.result import NO_FEATURES, Evaluation
from tunit.experiments import driver, networks_needed, one_row, trainings
from tunit.experiments.driver import run_table
from tunit.experiments.networks_needed import check_networks
from tunit.experiments.one_row import run_row
from tunit.experiments.paper_tables import CLUSTERING, TABLE1
from tunit.experiments.plan import Plan, smoke
from tunit.experiments.trainings import train_to_end
from tunit.files.download import UnreachableError
from tunit.training.preparation import resumed_config

ROWS = {row.name: row for row in TABLE1.rows}


@pytest.fixture
def plan(tmp_path):
    for i, name in enumerate("abc"):
        write_pictures(tmp_path / "data" / name, seed=i, number=5)
    return smoke(Plan(tmp_path / "data", tmp_path / "out", overrides=(("threads", "1"), ("device", "cpu"))))


def reproduce(plan, *words):
    return main(["reproduce", "table1", "--data", str(plan.data), "--out", str(plan.out), "--smoke", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "G", "--features", "inceptoin"), "feature network 'inceptoin' is neither a file nor a known"),
        (("--only", "D", "--cluster-features", "moko.tar"), "feature network 'moko.tar' is neither a file nor"),
        (
            ("--only", "G", "--cluster-features", "moko.tar"),
            "--cluster-features moko.tar has no effect, because no chosen row of table1 uses k-means on features: "
            "leave it out, or take row D, too",
        ),
    ],
)  # fmt: skip
def test_a_wrong_network_is_refused_before_any_row_is_begun(plan, monkeypatch, capsys, words, message):
    monkeypatch.setattr(one_row, "train_to_end", lambda *given: pytest.fail("trained"))
    assert reproduce(plan, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not plan.out.exists()


def test_a_finished_row_of_k_means_does_not_forbid_its_network(plan, monkeypatch):
    monkeypatch.setattr(driver, "run_row", lambda table, row, *given: {"row": row.name})
    monkeypatch.setattr(driver, "check_networks", lambda *given: None)
    plan = Plan(plan.data, plan.out, cluster_features="moco.tar")
    with pytest.raises(ConfigError, match=r"moco\.tar has no effect"):
        run_table(TABLE1, plan, only=("G",))
    done = plan.folder(TABLE1, ROWS["D"], 0) / "outcome.json"
    done.parent.mkdir(parents=True)
    done.touch()
    assert run_table(TABLE1, plan, only=("G",)) == [{"row": "G"}]


def test_what_cannot_be_downloaded_stops_only_rows_that_need_it(tmp_path, monkeypatch):
    def unreachable(name, **given):
        if name == "inception":
            raise UnreachableError("it cannot be downloaded")

    monkeypatch.setattr(networks_needed, "load_feature_network", unreachable)
    plan = Plan(tmp_path, tmp_path, features="inception")
    check_networks(plan, [])
    check_networks(plan, CLUSTERING.rows)
    for row in ("D", "G"):
        with pytest.raises(UnreachableError):
            check_networks(plan, [ROWS[row]])
    only_d = Plan(tmp_path, tmp_path, cluster_features="inception")
    check_networks(only_d, [ROWS["G"]])
    with pytest.raises(UnreachableError):
        check_networks(only_d, [ROWS["D"]])


def trained(source, out, config):
    """As a training that has ended."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.toml").write_text(config.to_toml())


def test_a_row_without_a_feature_network_is_not_finished(plan, monkeypatch):
    found = Evaluation(features=NO_FEATURES, notes=["no network"])
    monkeypatch.setattr(one_row, "train_to_end", trained)
    monkeypatch.setattr(one_row, "evaluate_run", lambda *given, **named: found)
    done = plan.folder(TABLE1, ROWS["G"], 0) / "outcome.json"
    with pytest.raises(
        RunError, match=r"is trained, but its translations cannot be measured \(no network\): call"
    ):
        run_row(TABLE1, ROWS["G"], plan, 0, print)
    assert not done.exists()
    found = Evaluation(features="inception (clean)", figures={"mFID": 3.0})
    assert run_row(TABLE1, ROWS["G"], plan, 0, print)["figures"] == {"mFID": 3.0}
    assert json.loads(done.read_text())["features"] == "inception (clean)"


@pytest.mark.parametrize(
    ("there", "work"),
    [(True, "they are measured now"), (False, "its run is gone, so it is trained and measured again")],
)
def test_a_row_that_an_older_version_finished_without_mfid_is_measured_again(
    plan, monkeypatch, capsys, there, work
):
    found = Evaluation(features="random-vgg16 (clean)", figures={"mFID": 3.0})
    monkeypatch.setattr(one_row, "evaluate_run", lambda *given, **named: found)
    monkeypatch.setattr(one_row, "train_to_end", trained)
    assert reproduce(plan, "--only", "A,B", "--sources", "8") == 0
    folder = plan.folder(TABLE1, ROWS["B"], 0)
    done = folder / "outcome.json"
    complete = done.read_text()
    done.write_text(
        json.dumps(json.loads(complete) | {"features": NO_FEATURES, "figures": {"accuracy": 0.5}})
    )
    capsys.readouterr()
    assert reproduce(plan, "--only", "A", "--sources", "8") == 0
    left_out = (
        f"B is left out of the table: the translations in {folder} were not measured: ask for it by --only"
    )
    assert left_out in " ".join(capsys.readouterr().err.split())
    if there:
        (folder / "run" / "run.json").touch()
    loaded, tried = [], []
    monkeypatch.setattr(networks_needed, "load_feature_network", lambda name, **given: loaded.append(name))
    monkeypatch.setattr(one_row, "train_to_end", lambda *given: tried.append(given) or trained(*given))
    assert reproduce(plan, "--only", "A,B", "--sources", "8") == 0
    err = " ".join(capsys.readouterr().err.split())
    assert f"B, seed 0: an earlier call could not measure its translations; {work}" in err
    assert (loaded, len(tried), done.read_text()) == (["random-vgg16"], 1, complete)
    assert reproduce(plan, "--only", "A,B", "--sources", "8") == 0
    assert "earlier call" not in capsys.readouterr().err
    assert len(tried) == 1


def test_a_stopped_run_takes_the_settings_of_the_machine_of_now(tmp_path, monkeypatch):
    (tmp_path / "run.json").touch()
    monkeypatch.setattr(trainings, "load_model", lambda out: SimpleNamespace(step=3))
    resumed = []
    monkeypatch.setattr(
        trainings, "resume_run", lambda out, overrides, **more: resumed.append((out, overrides))
    )
    now = tiny_config(threads=3, precision="bfloat16", compile=True, steps=8)
    train_to_end(tmp_path / "train.csv", tmp_path, now)
    ((out, overrides),) = resumed
    assert out == tmp_path
    began = tiny_config(steps=8)
    assert resumed_config(began, overrides) == resumed_config(now, {})
    assert resumed_config(read_config("paper"), overrides).schedule.steps == 200_000


def test_pictures_are_listed_once_and_a_missing_class_is_said_once(plan, tmp_path, monkeypatch, capsys):
    for name in "ab":
        write_pictures(tmp_path / "held" / name, seed=5, number=3)
    listed = []
    real = Plan.split_of
    monkeypatch.setattr(Plan, "split_of", lambda self, table: listed.append(table) or real(self, table))

    def failing(*words):
        raise RunError("enough")

    monkeypatch.setattr(one_row, "train_to_end", failing)
    assert reproduce(plan, "--only", "B,G", "--held-back", str(tmp_path / "held")) == 2
    assert len(listed) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("there are no held-back pictures of 'c'") == 1
    assert said.count("failed: enough") == 2
