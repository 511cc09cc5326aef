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

    def write(*actions, step=step, **more):
        begin = {
            "do": "begin",
            "pictures": "",
            "step": step,
            "domains": 3,
            "found": [0] * 20,
            "sure": [1.0] * 20,
        } | more
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


LABELLED = "picture,label,hash\na.png,crow,1\nb.png,jay,2\n"


def test_names_of_a_labelled_run_are_those_in_teach(taught, tmp_path):
    (tmp_path / "birds" / "pictures.csv").write_text(LABELLED)
    begun = {"names": ["crow", "jay", ""]}
    removed, renamed = ({"do": "name", "domain": 0, "name": name} for name in ("", "raven"))
    assert taught(**begun) == {0: "crow", 1: "jay"}
    assert taught(removed, **begun) == {1: "jay"}
    assert taught(renamed, {"do": "undo"}, **begun) == {0: "crow", 1: "jay"}
    # a domain that was merged is still one of the model's
    assert taught({"do": "merge", "domains": [0], "into": 2}, **begun) == {0: "crow", 1: "jay", 2: "crow"}
    # of another model, of an older version, and damaged
    for more in (
        {"step": 5} | begun,
        {},
        {"names": ["crow"]},
        {"names": [0, 1, 2]},
        {"names": ["\ud800", "", ""]},
    ):
        assert taught(removed, **more) == {0: "crow", 1: "jay"}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["a\nb", "a\\nb"], {0: r"a\nb"}),  # they look the same
        (["Ki\u0301", "K\u00ed"], {0: "K\u00ed"}),
        (["apple", "domain 000"], {0: "apple"}),  # in the run before, domain 0 had no name
        (["Domain 1", "domain 2"], {0: "Domain 1", 1: "domain 2"}),
        (["a  b ", "c"], {0: "a b", 1: "c"}),
    ],
)
def test_labels_are_names_as_a_person_might_give_them(tmp_path, labels, names):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "model.safetensors").touch()
    rows = "".join(f'{i}.png,"{label}",{i}\n' for i, label in enumerate(labels))
    (tmp_path / "birds" / "pictures.csv").write_text("picture,label,hash\n" + rows)
    assert domain_names(Workspace(tmp_path, device="cpu").run("birds")) == names


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
