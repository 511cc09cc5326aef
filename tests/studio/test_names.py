"""The names that people give to domains: from Teach, or from the labels of the training."""

import json
import shutil
import time

import pytest
from starlette.testclient import TestClient

from tunit.studio.app import create_app
from tunit.studio.names import domain_names
from tunit.studio.workspace import Workspace

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture
def taught(runs, tmp_path):
    """A copy of a run, and a function that writes its journal."""
    shutil.copytree(
        runs / "birds", tmp_path / "birds", ignore=shutil.ignore_patterns("studio", "checkpoints")
    )
    run = Workspace(tmp_path / "birds", device="cpu").run("birds")
    step = json.loads((run.path / "model.json").read_text())["step"]

    def write(*actions, step=step):
        begin = {
            "do": "begin",
            "pictures": "",
            "step": step,
            "domains": 3,
            "found": [0] * 20,
            "sure": [1.0] * 20,
        }
        (run.path / "studio").mkdir(exist_ok=True)
        lines = [json.dumps(entry) + "\n" for entry in (begin, *actions)]
        (run.path / "studio" / "journal.jsonl").write_text("".join(lines))
        return domain_names(run)

    return write


def test_a_name_given_in_teach_is_shown(taught):
    named = {"do": "name", "domain": 1, "name": "jays"}
    assert taught(named) == {1: "jays"}
    assert taught(named, {"do": "undo"}) == {}
    # a domain that the model does not know yet
    assert taught(named, {"do": "add", "name": "new"}) == {1: "jays"}


def test_names_belong_to_the_model_for_which_they_were_given(taught):
    named = {"do": "name", "domain": 1, "name": "jays"}
    assert taught(named, step=5) == {}


@pytest.mark.parametrize("action", [{"do": "nothing"}, {}, {"do": "undo"}, {"do": "name", "domain": 1}])
def test_an_unreadable_journal_gives_no_names(taught, action):
    assert taught(action) == {}


def test_labels_of_the_training_are_used_as_names(runs, tmp_path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "model.safetensors").touch()
    (tmp_path / "birds" / "pictures.csv").write_text(
        "picture,label,hash\na.png,jay,1\nb.png,crow,2\nc.png,,3\n"
    )
    assert domain_names(Workspace(tmp_path, device="cpu").run("birds")) == {0: "crow", 1: "jay"}


def test_labels_that_cannot_be_sent_to_a_page_are_escaped(runs, tmp_path):
    """Labels may be names of folders: here a byte that is not UTF-8, a change of direction, and a line break."""
    shutil.copytree(
        runs / "birds", tmp_path / "birds", ignore=shutil.ignore_patterns("studio", "checkpoints")
    )
    rows = [b"a.png,caf\xe9,1", "b.png,d\u202ef,2".encode(), b'c.png,"e\nf",3']
    (tmp_path / "birds" / "pictures.csv").write_bytes(b"\n".join([b"picture,label,hash", *rows, b""]))
    workspace = Workspace(tmp_path, device="cpu")
    names = {0: r"caf\xe9", 1: r"d\u202ef", 2: r"e\nf"}
    assert domain_names(workspace.run("birds")) == names
    with TestClient(create_app(workspace), base_url=ADDRESS) as client:
        until = time.monotonic() + 60
        while (answer := client.get("/runs/birds/explore/pictures")).status_code == 202:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert answer.status_code == 200
    assert set(names.values()) <= {domain["name"] for domain in answer.json()["domains"]}
