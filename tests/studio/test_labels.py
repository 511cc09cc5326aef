"""What people say about domains: the result of their actions. Nothing of it may be lost."""

import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tiny_run import tiny_config, write_pictures
from tunit.config.run_file import write_run_config
from tunit.data.finding.find import find_pictures
from tunit.errors import ConfigError, RunError
from tunit.files.atomic import UnwritableError
from tunit.studio import labels as labels_module
from tunit.studio import opened_labels
from tunit.studio.action_log import ActionLog, StaleError
from tunit.studio.labels import ModelOutput, RunLabels
from tunit.studio.opened_labels import split_in_two
from tunit.training.run_folder import RunFolder

NAMES = [f"{i}.png" for i in range(8)]
LOOKED = ModelOutput(
    NAMES, [0, 0, 0, 1, 1, 1, 2, 2], [0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.9, 0.8], domains=3, step=12
)


@pytest.fixture
def labels(tmp_path):
    return RunLabels(tmp_path, LOOKED)


def do(labels, what, **values):
    return labels.act({"do": what, **values}, labels.state().number)


def table(labels):
    labels.write_table()
    with labels.table.open(newline="") as file:
        return {row["picture"]: (row["label"], row["by"]) for row in csv.DictReader(file)}


def domains(labels):
    assignment = labels.state().assignment
    return [None if i in assignment.left_out else assignment.domain_of(i) for i in range(8)]


def test_nothing_is_written_before_the_first_action(labels, tmp_path):
    assert labels.state().number == 0
    assert list(tmp_path.iterdir()) == []


def test_a_domain_given_by_a_person_is_the_label(labels):
    do(labels, "name", domain=1, name="  ripe   pear ")
    do(labels, "give", pictures=[0, 6], domain=1)
    assert table(labels)["0.png"] == table(labels)["6.png"] == ("ripe pear", "person")
    assert domains(labels) == [1, 0, 0, 1, 1, 1, 1, 2]


def test_pictures_left_out_have_no_row_and_can_come_back(labels):
    do(labels, "leave_out", pictures=[7])
    assert "7.png" not in table(labels)
    assert domains(labels)[7] is None
    do(labels, "forget", pictures=[7])
    assert table(labels)["7.png"] == ("domain 002", "model")


def test_merged_domains_are_one_domain_and_keep_the_name(labels):
    do(labels, "name", domain=2, name="pear")
    do(labels, "merge", domains=[2, 1], into=1)
    assert domains(labels) == [0, 0, 0, 1, 1, 1, 1, 1]
    assert {label for label, _ in table(labels).values()} == {"domain 000", "pear"}


def test_a_split_moves_its_part_and_keeps_persons_labels(labels):
    do(labels, "give", pictures=[1], domain=0)
    do(labels, "split", domain=0, part=[1, 2])
    assert domains(labels)[:3] == [0, 3, 3]
    assert table(labels)["1.png"] == ("domain 003", "person")
    assert table(labels)["0.png"] == ("domain 000", "model")


def test_a_later_merge_applies_to_earlier_labels(labels):
    do(labels, "give", pictures=[0], domain=2)
    do(labels, "merge", domains=[2], into=1)
    do(labels, "merge", domains=[1], into=0)
    assert set(domains(labels)) == {0}


def test_for_domains_without_persons_labels_the_model_gives_examples(tmp_path):
    looked = ModelOutput(
        [f"{i:02d}.png" for i in range(30)], [i % 2 for i in range(30)], [i / 30 for i in range(30)], 2, 1
    )
    labels = RunLabels(tmp_path, looked)
    do(labels, "give", pictures=[3, 5], domain=1)
    rows = table(labels)
    assert [name for name, row in rows.items() if row == ("domain 001", "person")] == ["03.png", "05.png"]
    surest = ["20.png", "22.png", "24.png", "26.png", "28.png"]
    assert [name for name, row in rows.items() if row == ("domain 000", "model")] == surest
    assert list(rows.values()).count(("", "")) == 23


def test_undo_and_redo_move_through_the_history(labels):
    do(labels, "name", domain=0, name="a")
    do(labels, "give", pictures=[7], domain=0)
    assert do(labels, "undo").assignment.given == {}
    assert do(labels, "undo").assignment.names[0] == ""
    with pytest.raises(ConfigError, match="nothing to undo"):
        do(labels, "undo")
    assert do(labels, "redo").assignment.names[0] == "a"
    do(labels, "name", domain=0, name="b")  # undone actions are gone now
    with pytest.raises(ConfigError, match="nothing to redo"):
        do(labels, "redo")
    assert labels.state().number == 6


def test_undoing_random_actions_one_by_one_restores_every_stage(labels):
    rng, stages = random.Random(3), [labels.state().assignment]
    for _ in range(25):
        now = labels.state().assignment
        live = sorted(now.names)
        action = rng.choice(["give", "leave_out", "forget", "merge", "split", "add", "name"])
        some, one = sorted(rng.sample(range(8), 3)), rng.choice(live)
        if action == "merge" and len(live) < 2:
            continue
        values = {
            "merge": lambda live=live: dict(zip(("domains", "into"), ([live[0]], live[-1]), strict=True)),
            "split": lambda one=one, some=some: {"domain": one, "part": some},
            "add": lambda: {"name": ""},
            "name": lambda one=one: {"domain": one, "name": f"n{rng.random()}"},
            "give": lambda one=one, some=some: {"pictures": some, "domain": one},
        }.get(action, lambda some=some: {"pictures": some})()
        stages.append(do(labels, action, **values).assignment)
    for stage in stages[-2::-1]:
        assert do(labels, "undo").assignment == stage
    assert labels.state().number == 2 * (len(stages) - 1)


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"do": ["name"]},
        {"do": "begin"},
        {"do": "name", "domain": 3, "name": "x"},
        {"do": "name", "domain": True, "name": "x"},
        {"do": "name", "domain": 0, "name": 7},
        {"do": "name", "domain": 0, "name": "x" * 61},
        {"do": "name", "domain": 0, "name": "a\x1b[31m"},
        {"do": "name", "domain": 0, "name": "domain 1"},
        {"do": "merge", "domains": [0], "into": 0},
        {"do": "merge", "domains": 1, "into": 0},
        {"do": "split", "domain": 0, "part": []},
        {"do": "give", "pictures": [8], "domain": 0},
        {"do": "give", "pictures": [-1], "domain": 0},
        {"do": "give", "pictures": [0.5], "domain": 0},
        {"do": "give", "pictures": "0", "domain": 0},
        {"do": "leave_out", "pictures": [True]},
    ],
)
def test_impossible_actions_are_one_sentence_and_not_recorded(labels, action):
    with pytest.raises(ConfigError) as caught:
        labels.act(action, 0)
    assert "\n" not in str(caught.value)
    assert labels.state().number == 0


def test_two_domains_cannot_have_the_same_name(labels):
    do(labels, "name", domain=0, name="Pear")
    with pytest.raises(ConfigError, match="the name of domain 0 already"):
        do(labels, "name", domain=1, name="pear")
    do(labels, "name", domain=0, name="pear")  # its own name is allowed


def test_a_name_with_its_accent_in_a_character_of_its_own_is_the_same_name(labels, tmp_path):
    composed, decomposed = "K\u00ed", "Ki\u0301"
    do(labels, "name", domain=0, name=composed)
    with pytest.raises(ConfigError, match="is the name of domain 0 already"):
        do(labels, "name", domain=1, name=decomposed)
    with pytest.raises(ConfigError, match="is the name of domain 0 already"):
        do(labels, "add", name=decomposed.upper())
    do(labels, "name", domain=0, name="")
    do(labels, "name", domain=1, name=decomposed)
    assert labels.state().assignment.names[1] == composed
    journal = ActionLog(tmp_path / "studio" / "journal.jsonl")  # an older one may hold both names
    journal.append({"do": "name", "domain": 2, "name": decomposed}, len(journal.refresh()))
    assert RunLabels(tmp_path, LOOKED).state().assignment.names == {0: "", 1: composed, 2: decomposed}


def test_an_action_on_an_old_state_is_refused_and_others_see_the_new_one(labels, tmp_path):
    other = RunLabels(tmp_path, LOOKED)
    do(labels, "give", pictures=[0], domain=1)
    with pytest.raises(StaleError, match="they are at action 1, this page shows action 0"):
        other.act({"do": "give", "pictures": [1], "domain": 1}, 0)
    assert other.state().assignment.given == {0: 1}
    do(other, "undo")
    assert labels.state().assignment.given == {}


def test_the_first_action_is_refused_if_its_author_saw_another_models_domains(labels, tmp_path):
    seen = labels.state()
    newer = RunLabels(tmp_path, dataclasses.replace(LOOKED, found=[0] * 8, checksum="newer"))
    with pytest.raises(StaleError, match="the run has a newer model"):
        newer.act({"do": "give", "pictures": [0], "domain": 1}, seen.number, seen.model)
    assert not (tmp_path / "studio" / "journal.jsonl").exists()
    now = newer.act({"do": "give", "pictures": [0], "domain": 1}, 0, newer.state().model)
    assert newer.act({"do": "undo"}, 1, now.model).number == 2


def test_a_journal_keeps_the_domains_with_which_it_began(labels, tmp_path):
    do(labels, "give", pictures=[0], domain=1)
    later = RunLabels(tmp_path, ModelOutput(NAMES, [4] * 8, [1.0] * 8, domains=5, step=99))
    assert domains(later) == [1, 0, 0, 1, 1, 1, 2, 2]
    assert later.state().step == 12


def test_a_journal_keeps_the_names_with_which_it_began(tmp_path):
    begun = dataclasses.replace(LOOKED, first_names=["crow", "jay", "too", "many"])
    labels = RunLabels(tmp_path, begun)
    assert labels.state().assignment.names == {0: "crow", 1: "jay", 2: "too"}
    do(labels, "name", domain=2, name="")
    later = RunLabels(tmp_path, LOOKED)
    assert later.state().assignment.names == {0: "crow", 1: "jay", 2: ""}
    assert do(later, "undo").assignment.names[2] == "too"
    assert {label for label, _ in table(later).values()} == {"crow", "jay", "too"}


def test_an_older_journal_without_names_is_read_and_one_with_wrong_names_refused(labels, tmp_path):
    do(labels, "name", domain=1, name="crow")
    path = labels.folder / "journal.jsonl"
    begin, action = path.read_text().splitlines()
    older = {name: value for name, value in json.loads(begin).items() if name != "names"}
    path.write_text(f"{json.dumps(older)}\n{action}\n")
    begun = dataclasses.replace(LOOKED, first_names=["crow", "jay", ""])
    assert RunLabels(tmp_path, begun).state().assignment.names == {0: "", 1: "crow", 2: ""}
    for wrong in (["a"], "abc", [1, 2, 3], ["\ud800", "", ""], None):
        path.write_text(f"{json.dumps(older | {'names': wrong})}\n{action}\n")
        with pytest.raises(RunError, match=r"does not begin like a journal \(.*names of it"):
            RunLabels(tmp_path, begun).state()


def test_an_incomplete_last_line_is_removed_and_a_damaged_line_reported(labels, tmp_path):
    do(labels, "give", pictures=[0], domain=1)
    do(labels, "give", pictures=[1], domain=1)
    path = labels.folder / "journal.jsonl"
    whole = path.read_bytes()
    for torn in (whole + b'{"do": "undo', whole + b"\0" * 50, whole + b'{"do": \n'):
        path.write_bytes(torn)
        again = RunLabels(tmp_path, LOOKED)
        assert again.state().number == 2
        do(again, "undo")
        assert RunLabels(tmp_path, LOOKED).state().number == 3
        assert path.read_bytes().startswith(whole)
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + b"what\n" + lines[2])
    with pytest.raises(RunError, match="damaged at line 2"):
        RunLabels(tmp_path, LOOKED).state()


def test_a_journal_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(RunError, match=r"journal\.jsonl cannot be read \(.*directory"):
        ActionLog(tmp_path / "journal.jsonl").refresh()


def test_a_journal_of_other_pictures_is_refused(labels, tmp_path):
    do(labels, "undo" if labels.state().number else "add", name="x")
    other = ModelOutput([f"other{i}" for i in range(8)], LOOKED.found, LOOKED.sure, 3, 12)
    with pytest.raises(RunError, match="other pictures"):
        RunLabels(tmp_path, other).state()


def test_a_full_disk_is_one_sentence_and_nothing_is_recorded(labels, monkeypatch):
    do(labels, "add", name="x")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tunit.studio.action_log.os.fsync", full)
    with pytest.raises(UnwritableError, match="No space left"):
        do(labels, "add", name="y")
    monkeypatch.undo()
    assert labels.state().number == 1
    do(labels, "add", name="y")


def test_the_table_is_written_once_after_several_actions(labels, monkeypatch):
    monkeypatch.setattr(labels_module, "IDLE", 0.3)
    written, write = [], RunLabels._write
    monkeypatch.setattr(
        RunLabels, "_write", lambda self, now, copy=None: written.append(now) or write(self, now)
    )
    for i in range(4):
        do(labels, "give", pictures=[i], domain=1)
    assert not labels.table.exists()
    labels._later.join()
    assert [now.number for now in written] == [4]
    assert [by for _, by in table(labels).values()].count("person") == 4


def test_the_table_that_a_killed_studio_left_behind_is_written_when_the_labels_are_opened(labels, tmp_path):
    do(labels, "give", pictures=[0], domain=1)
    labels._later.cancel()  # as if it was killed
    again = RunLabels(tmp_path, LOOKED)
    again.state()
    again._later.join()
    assert "0.png,domain 001,person" in again.table.read_text()
    once_more = RunLabels(tmp_path, LOOKED)
    once_more.state()
    assert once_more._later is None


def test_a_table_that_cannot_be_written_is_logged_and_the_actions_stay(labels, monkeypatch, caplog):
    monkeypatch.setattr(labels_module, "IDLE", 0)
    labels.table.mkdir(parents=True)
    do(labels, "add", name="x")
    labels._later.join()
    assert "labels.csv cannot be written" in caplog.text
    assert labels.state().number == 1


def test_the_table_is_read_as_a_table_of_labelled_pictures(tmp_path):
    from tiny_run import write_pictures

    folder = write_pictures(tmp_path / "photos, and more", number=8)
    names = sorted(path.name for path in folder.iterdir())
    labels = RunLabels(
        tmp_path, ModelOutput(names, *vars_of(LOOKED)), lambda: {name: folder / name for name in names}
    )
    do(labels, "name", domain=2, name='"quoted", ümläut')
    do(labels, "leave_out", pictures=[0])
    labels.write_table()
    found = find_pictures(labels.table, labels="csv").pictures
    assert [picture.label for picture in found if picture.content.path.name in names[6:]] == [
        '"quoted", ümläut'
    ] * 2
    assert len(found) == 7


def vars_of(looked):
    return looked.found, looked.sure, looked.domains, looked.step


def test_two_groups_are_split_between_them():
    rng = np.random.default_rng(0)
    styles = np.concatenate([rng.normal(0, 1, (12, 4)), rng.normal(20, 1, (5, 4))]).astype(np.float32)
    assert sorted(split_in_two(styles)) == [12, 13, 14, 15, 16]
    with pytest.raises(ConfigError, match="cannot be split"):
        split_in_two(styles[:1])
    with pytest.raises(ConfigError, match="cannot be split"):
        split_in_two(np.ones((5, 4), np.float32))


CHILD = """
import sys
from pathlib import Path
from test_labels import LOOKED
from tunit.studio.labels import RunLabels
labels = RunLabels(Path(sys.argv[1]), LOOKED)
while True:
    number = labels.act({"do": "give", "pictures": [labels.state().number % 8], "domain": 1},
                        labels.state().number).number
    print(number, flush=True)
"""


def test_confirmed_actions_survive_kill_9(tmp_path):
    here = str(Path(__file__).parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])}
    rng = random.Random(1)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env
        )
        with child:
            said = child.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            last = int([said, *child.stdout.read().splitlines(keepends=True)][-1])
        labels = RunLabels(tmp_path, LOOKED)
        number = labels.state().number
        assert number in (last, last + 1)
        assert labels.write_table().number == number
        assert [by for _, by in table(labels).values()].count("person") == min(8, number)


STUDIO = """
import sys
from pathlib import Path
from test_labels import LOOKED
from tunit.studio import labels
from tunit.studio.serve import serve
from tunit.studio.workspace import Workspace
labels.IDLE = 100
labels.RunLabels(Path(sys.argv[1]), LOOKED).act({"do": "give", "pictures": [0], "domain": 1}, 0)
serve(Workspace(Path(sys.argv[1]), device="cpu"), "127.0.0.1", 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of Unix")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_studio_that_is_ended_writes_the_table_at_once(tmp_path, number):
    here = str(Path(__file__).parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", STUDIO, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        try:
            port = int(child.stdout.readline().split("is open at http://127.0.0.1:")[1].strip(" /\n"))
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
            assert not (tmp_path / "studio" / "labels.csv").exists()
            child.send_signal(number)
            child.wait(60)
        finally:
            child.kill()
    assert "0.png,domain 001,person" in (tmp_path / "studio" / "labels.csv").read_text()


def test_a_run_that_does_not_say_where_its_pictures_are_has_none_of_them(tmp_path, monkeypatch):
    """Not even if there is a folder with the name of what is missing."""
    write_pictures(tmp_path / "None", number=2)
    write_run_config(tmp_path / "config.toml", tiny_config())
    (tmp_path / "run.json").write_text('{"source": null}')
    monkeypatch.chdir(tmp_path)
    assert opened_labels._files_of(SimpleNamespace(folder=RunFolder(tmp_path))) == {}
