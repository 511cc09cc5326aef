"""Teach: what people say is saved, several people do not disturb each other, and training continues with it."""

import csv
import dataclasses
import json
import os
import shutil
import sys
import threading
import time

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from studio.label_tables import label_rows
from tiny_run import tiny_config
from tunit.cli import main
from tunit.methods import registry
from tunit.methods.model_file import load_model
from tunit.methods.tunit import TUNIT
from tunit.studio import (
    command_lines,
    jobs,
    library,
    lru_cache,
    names,
    opened_labels,
    output_thread,
    train,
    workspace,
)
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace
from tunit.training.launch import start_run
from tunit.training.run_folder import label_names, read_picture_index
from tunit.translation.translator import Translator

ADDRESS = "http://127.0.0.1:8765"
FAKE = "import time; time.sleep(60)"


@pytest.fixture
def root(runs, tmp_path):
    shutil.copytree(runs / "birds", tmp_path / "runs" / "birds")
    return tmp_path / "runs"


def client_of(root, runs):
    app = create_app(Workspace(root, (runs.parent / "pictures",), device="cpu"))
    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)


@pytest.fixture
def own(root, runs):
    with client_of(root, runs) as client:
        looked(client)
        yield client


def looked(client):
    until = time.monotonic() + 120
    while (answer := client.get("/runs/birds/teach/pictures")).status_code == 202:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return answer.json()


def act(client, seen, **action):
    fields = {"action": json.dumps(action), "seen": str(seen)}
    return client.post("/runs/birds/teach/act", data=fields)


def table(root):
    return label_rows(root / "birds")


def test_the_page_gets_the_models_predictions(own, root):
    found = looked(own)
    assert found["now"]["number"] == 0
    assert len(found["rows"]) == len(found["names"]) == len(found["now"]["domain"]) == 20
    assert sum(domain["size"] for domain in found["now"]["domains"]) == 20
    assert not (root / "birds" / "studio" / "journal.jsonl").exists()


def test_actions_are_in_the_table_soon_with_existing_paths(own, root, runs):
    names = looked(own)["names"]
    assert act(own, 0, do="name", domain=0, name="crow").status_code == 200
    state = act(own, 1, do="give", pictures=[0, 19], domain=0).json()
    assert (state["number"], state["given"], state["domain"][19]) == (2, [0, 19], 0)
    assert state["history"] == ["2 pictures given domain 0", "domain 0 is called crow"]
    rows = {row["picture"]: row for row in table(root)}
    assert set(rows) == {str(runs.parent / "pictures" / name) for name in names}
    assert [rows[str(runs.parent / "pictures" / names[i])]["by"] for i in (0, 19)] == ["person"] * 2
    state = act(own, 2, do="undo").json()
    assert state["undone"] == ["2 pictures given domain 0"]
    assert state["given"] == []


def test_an_action_on_another_models_domains_is_refused_although_the_number_is_the_same(own, root):
    model = looked(own)["now"]["model"]
    fields = {"action": json.dumps({"do": "add", "name": "owl"}), "seen": "0"}
    answer = own.post("/runs/birds/teach/act", data=fields | {"model": f"{model}0"})
    assert answer.status_code == 409
    assert "newer model" in answer.json()["error"]
    answer = own.post("/runs/birds/teach/act", data=fields | {"model": model})
    assert (answer.status_code, answer.json()["model"]) == (200, model)


def test_a_split_divides_the_style_codes(own, root):
    found = looked(own)
    sizes = {domain["number"]: domain["size"] for domain in found["now"]["domains"]}
    largest = max(sizes, key=sizes.get)
    state = act(own, 0, do="split", domain=largest).json()
    domain = np.array(state["domain"])
    new = max(one["number"] for one in state["domains"])
    assert new == 3
    assert (domain == largest).sum() + (domain == new).sum() == sizes[largest]
    names = found["names"]
    styles = (
        Translator.load(root / "birds", device="cpu")
        .guide([_file(root, name) for name in names])
        .style.numpy()
    )

    def spread(rows):
        return ((styles[rows] - styles[rows].mean(0)) ** 2).sum()

    whole = np.flatnonzero((domain == largest) | (domain == new))
    assert spread(domain == largest) + spread(domain == new) < spread(whole)


def _file(root, name):
    about = json.loads((root / "birds" / "run.json").read_text())
    return f"{about['source']}/{name}"


def test_two_people_do_not_disturb_each_other(root, runs, own):
    with client_of(root, runs) as other:
        looked(other)
        assert act(own, 0, do="give", pictures=[0], domain=1).status_code == 200
        late = act(other, 0, do="give", pictures=[0], domain=2)
        assert late.status_code == 409
        assert len(late.json()["error"].splitlines()) == 1
        state = other.get("/runs/birds/teach/state").json()
        assert (state["number"], state["domain"][0]) == (1, 1)
        assert act(other, 1, do="undo").status_code == 200
    assert own.get("/runs/birds/teach/state").json()["given"] == []


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        ("", "0"), ("[]", "0"), ("{", "0"), ("[" * 5000, "0"), ("{}", "x"), ("{}", "-1"), ("{}", "0"),
        ('{"do": "split", "domain": 99}', "0"), ('{"do": "split", "domain": [1]}', "0"), ('{"do": "split"}', "0"),
        ('{"do": "give", "pictures": [20], "domain": 0}', "0"),
    ],
)  # fmt: skip
def test_meaningless_requests_are_one_sentence(own, root, action, seen):
    answer = own.post("/runs/birds/teach/act", data={"action": action, "seen": seen})
    assert answer.status_code == 400
    assert len(answer.json()["error"].splitlines()) == 1
    assert not (root / "birds" / "studio" / "journal.jsonl").exists()


def test_training_continues_with_the_labels(own, root, monkeypatch):
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", FAKE))
    fields = {"name": "birds taught", "steps": "9"}
    assert "no labels were given yet" in own.post("/runs/birds/teach/train", data=fields).json()["error"]
    act(own, 0, do="merge", domains=[2], into=0)
    act(own, 1, do="give", pictures=[3], domain=1)
    assert not (root / "birds" / "studio" / "labels.csv").exists()  # it is written before the training
    answer = own.post("/runs/birds/teach/train", data=fields)
    assert answer.status_code == 200, answer.text
    out = root / "birds taught"
    try:
        command = json.loads((out / "studio" / "job.json").read_text())["command"][3:]
        assert command[:4] == ["train", str(out / "studio" / "trained-on.csv"), "--out", str(out)]
        given = (out / "studio" / "trained-on.csv").read_text()
        assert given == (root / "birds" / "studio" / "labels.csv").read_text()
        act(own, 2, do="undo")
        assert (out / "studio" / "trained-on.csv").read_text() == given
        options = dict(zip(command[4::2], command[5::2], strict=True))
        live = {row["label"] for row in csv.DictReader(given.splitlines()) if row["label"]}
        assert options["--from"] == str(root / "birds")
        assert options["--labels"] == "csv"
        assert options["--domains"] == str(len(live))
        assert options["--steps"] == "9"
        assert "exists already" in own.post("/runs/birds/teach/train", data=fields).json()["error"]
    finally:
        jobs.stop(out)


def test_a_training_that_is_refused_leaves_nothing(own, root, monkeypatch):
    act(own, 0, do="add", name="x")
    monkeypatch.setattr(train, "MOST_AT_ONCE", 0)
    answer = own.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"})
    assert "trainings run already" in answer.json()["error"]
    assert not (root / "new").exists()


def test_a_training_that_the_studio_cannot_list_has_begun_all_the_same(own, root, monkeypatch):
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", FAKE))
    monkeypatch.setattr(workspace, "MOST_RUNS", 1)
    act(own, 0, do="add", name="x")
    answer = own.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"})
    assert (answer.status_code, answer.json()) == (200, {"run": ""})
    jobs.stop(root / "new")


def test_the_command_trains_with_the_given_names(own, root):
    names = looked(own)["names"]
    for seen, action in enumerate(
        (
            {"do": "name", "domain": 0, "name": "crow"},
            {"do": "merge", "domains": [2], "into": 1},
            {"do": "give", "pictures": [0, 1, 2], "domain": 0},
            {"do": "give", "pictures": [3, 4], "domain": 1},
            {"do": "leave_out", "pictures": [19]},
        )
    ):
        assert act(own, seen, **action).status_code == 200
    assert len(table(root)) == 19
    out = root / "taught"
    training = command_lines.FewLabels(
        root / "birds" / "studio" / "labels.csv", root / "birds", out, steps=4, domains=2
    )
    assert main(training.command()[len(command_lines.TUNIT) :]) == 0
    assert label_names(out) == ["crow", "domain 001"]
    labels = [label for _, label, _ in read_picture_index(out / "pictures.csv")]
    assert [labels.count(label) for label in ("crow", "domain 001", "")] == [3, 2, len(names) - 6]
    assert load_model(out, torch.device("cpu")).settings.domains == 2


def test_a_run_with_another_runs_guide_and_other_columns_can_be_taught(root, runs, tmp_path):
    files = sorted((runs.parent / "pictures").rglob("*.png"))
    first, out, labels = tmp_path / "first", tmp_path / "taught", tmp_path / "labels.csv"
    (tmp_path / "birds.csv").write_text(
        "".join(f"{line}\n" for line in ("file,kind", *(f"{f},a" for f in files)))
    )
    columns = {"label_column": "kind", "picture_column": "file"}
    config = tiny_config(steps=1, guide_only_until=1, guide_from=str(root / "birds"), **columns)
    start_run(tmp_path / "birds.csv", first, config, quiet=True)
    rows = [f"{path},{'crow' if i % 2 else 'jay'},person\n" for i, path in enumerate(files)]
    labels.write_text("picture,label,by\n" + "".join(rows))
    training = command_lines.FewLabels(labels, first, out, steps=2, domains=2)
    assert main(training.command()[len(command_lines.TUNIT) :]) == 0
    assert label_names(out) == ["crow", "jay"]


def test_pictures_that_have_moved_are_one_sentence(root, runs):
    about = root / "birds" / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"source": str(root / "gone")}))
    with client_of(root, runs) as client:
        looked(client)
        act(client, 0, do="add", name="x")
        answer = client.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"})
    assert "20 pictures of birds are no longer where they were" in answer.json()["error"]


def test_a_run_that_does_not_say_where_its_pictures_are_is_one_sentence(root, runs):
    about = root / "birds" / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"source": None}))
    with client_of(root, runs) as client:
        looked(client)
        act(client, 0, do="add", name="x")
        answer = client.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"})
    assert answer.json()["error"] == (
        f'{about} does not say where the pictures of the run are: set "source" in it to their folder'
    )


def test_pictures_that_were_put_back_are_found(root, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", FAKE))
    source, away, about = tmp_path / "pictures", tmp_path / "away", root / "birds" / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"source": str(source)}))
    shutil.copytree(runs.parent / "pictures", away)
    order = {"name": "new", "steps": "9"}
    with client_of(root, runs) as client:
        looked(client)
        assert act(client, 0, do="add", name="x").status_code == 200
        assert (
            "no longer where they were" in client.post("/runs/birds/teach/train", data=order).json()["error"]
        )
        away.rename(source)
        assert client.post("/runs/birds/teach/train", data=order).status_code == 200
    jobs.stop(root / "new")
    assert {row["picture"] for row in table(root)} == {str(path) for path in source.rglob("*.png")}


def test_files_are_searched_once_for_all_actions_even_if_none_are_found(root, runs, monkeypatch):
    searched = []
    monkeypatch.setattr(opened_labels, "_files_of", lambda run: searched.append(run) or {})
    with client_of(root, runs) as client:
        looked(client)
        for seen in range(2):
            assert act(client, seen, do="add", name=f"x{seen}").status_code == 200
            table(root)
    assert len(searched) == 1


def test_a_run_whose_method_trains_nothing_alone_is_refused_at_once(own, root, monkeypatch):
    """A training with new labels begins with E alone."""
    changed = dataclasses.replace(TUNIT, trains_guide_first=False)
    monkeypatch.setitem(registry._methods, "tunit", changed)
    act(own, 0, do="add", name="x")
    answer = own.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(
        "birds was trained by method 'tunit', in which nothing trains alone, but"
    )
    assert not (root / "new").exists()


def test_invalid_orders_are_one_sentence(own):
    act(own, 0, do="add", name="x")
    for changed in ({"name": "../x"}, {"name": ""}, {"name": "birds"}, {"steps": "0"}, {"steps": "many"}):
        answer = own.post("/runs/birds/teach/train", data={"name": "new", "steps": "9"} | changed)
        assert answer.status_code == 400
        assert len(answer.json()["error"].splitlines()) == 1


def test_new_checkpoints_do_not_interrupt_the_page(own, root, monkeypatch):
    """The last complete output is used while that of the newest model is computed, by one thread at a time."""
    begun, may_end, read = threading.Event(), threading.Event(), output_thread.read_output
    made, make = [], library.OutputThread

    def later(*args):
        begun.set()
        assert may_end.wait(120)
        return read(*args)

    monkeypatch.setattr(output_thread, "read_output", later)
    monkeypatch.setattr(library, "OutputThread", lambda *args: made.append(make(*args)) or made[-1])
    try:
        for checkpoint in range(3):
            os.utime(root / "birds" / "model.safetensors", (checkpoint, checkpoint))
            assert act(own, checkpoint, do="name", domain=0, name=f"crow {checkpoint}").status_code == 200
            assert own.get("/runs/birds/teach/state").json()["number"] == checkpoint + 1
            for part in ("teach/pictures", "explore/pictures?stage=0", "explore/picture/3"):
                assert own.get(f"/runs/birds/{part}").status_code == 200
            assert begun.wait(120)
        assert len(made) == 1
    finally:
        may_end.set()
    made[0].wait()
    assert own.get("/runs/birds/teach/state").json()["number"] == 3
    assert len(made) == 2
    made[1].wait()
    assert made[1].known.stamp == lru_cache.stamp_of(root / "birds" / "model.safetensors")


def test_the_domains_begin_with_the_names_of_the_labels_of_the_training(root, runs):
    """As if the run had been trained with labels; the last of its domains has none."""
    index = root / "birds" / "pictures.csv"
    rows = [
        f"{name},{'jay' if i % 2 else 'crow'},{digest}"
        for i, (name, _, digest) in enumerate(read_picture_index(index))
    ]
    index.write_text("\n".join(["picture,label,hash", *rows, ""]))
    run = Workspace(root, device="cpu").run("birds")

    def called(state):
        found = {domain["number"]: domain["name"] for domain in state["domains"]}
        shown = names.domain_names(run)
        assert {k: name for k, name in found.items() if name} == {k: shown[k] for k in found if k in shown}
        return found

    with client_of(root, runs) as client:
        assert called(looked(client)["now"]) == {0: "crow", 1: "jay", 2: ""}
        taken = act(client, 0, do="name", domain=2, name="Crow")
        assert "'Crow' is the name of domain 0 already" in taken.json()["error"]
        assert called(act(client, 0, do="name", domain=0, name="raven").json())[0] == "raven"
        assert called(act(client, 1, do="undo").json())[0] == "crow"
        assert called(act(client, 2, do="merge", domains=[1], into=2).json()) == {0: "crow", 2: "jay"}
        assert called(act(client, 3, do="name", domain=2, name="").json()) == {0: "crow", 2: ""}
        assert called(act(client, 4, do="undo").json()) == {0: "crow", 2: "jay"}
        assert called(act(client, 5, do="give", pictures=[0, 1], domain=2).json()) == {0: "crow", 2: "jay"}
        assert {row["label"] for row in table(root) if row["by"] == "person"} == {"jay"}
        assert {row["label"] for row in table(root)} <= {"crow", "jay", ""}
    index.write_text(index.read_text().replace(",crow,", ",another,"))
    with client_of(root, runs) as client:  # the journal keeps them
        assert called(looked(client)["now"]) == {0: "crow", 2: "jay"}


def test_names_given_to_the_domains_of_a_model_are_not_those_of_another_one_of_the_same_step(root, runs):
    with client_of(root, runs) as client:
        assert not looked(client)["older"]
        assert act(client, 0, do="name", domain=0, name="crow").status_code == 200
        assert not looked(client)["older"]
    run = Workspace(root, device="cpu").run("birds")
    assert names.domain_names(run) == {0: "crow"}
    config = tiny_config(style_width=8, seed=1)
    start_run(runs.parent / "pictures", root / "birds", config, overwrite=True, quiet=True)
    assert names.domain_names(run) == {}
    with client_of(root, runs) as client:
        assert looked(client)["older"] == 12
