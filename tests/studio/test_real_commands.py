"""The studio's requests start the real command line: a training, its resume, and a training with labels of Teach."""

import json
import shutil
import time

import pytest

from tiny_run import tiny_config
from tunit.cli import main
from tunit.config.run_file import write_run_config
from tunit.data.packing.packed import open_packed
from tunit.studio import jobs, train
from tunit.training.run_folder import RunFolder, label_names


@pytest.fixture
def root(runs, tmp_path):
    """A folder of runs for this test only, with one run in it with a setting that is of no use with labels."""
    shutil.copytree(runs / "birds", tmp_path / "runs" / "birds")
    run = RunFolder(tmp_path / "runs" / "birds")
    write_run_config(run.config, run.read_config().with_overrides({"guide_warm_up": 2}))
    return tmp_path / "runs"


def finished(run, steps):
    """Wait until a training has taken all its steps. Returns what it printed."""
    until = time.monotonic() + 240
    while (found := jobs.state_of(run)).runs:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    assert found == jobs.State(jobs.FINISHED, steps, steps), (found, jobs.log_tail(run))
    return jobs.log_tail(run)


def looked(client, key):
    until = time.monotonic() + 120
    while (answer := client.get(f"/runs/{key}/teach/pictures")).status_code == 202:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return answer.json()


def taught(client, key, name, *actions):
    """Carry out actions on the page Teach of a run, and start a training with them. Returns the key of the run."""
    looked(client, key)
    for seen, action in enumerate(actions):
        fields = {"action": json.dumps(action), "seen": str(seen)}
        answer = client.post(f"/runs/{key}/teach/act", data=fields)
        assert answer.status_code == 200, answer.text
    answer = client.post(f"/runs/{key}/teach/train", data={"name": name, "steps": "2"})
    assert answer.status_code == 200, answer.text
    return answer.json()["run"]


def test_a_training_with_labels_of_teach_is_carried_out_resumed_and_taught_again(own, root):
    key = taught(
        own,
        "birds",
        "again",
        {"do": "merge", "domains": [2], "into": 1},
        {"do": "name", "domain": 0, "name": "crow"},
        {"do": "give", "pictures": [0, 1], "domain": 0},
        {"do": "leave_out", "pictures": [19]},
    )
    assert "has no effect" not in finished(root / "again", 2)
    assert label_names(root / "again") == ["crow", "domain 001"]
    names = open_packed(root / "again" / "data").names
    assert len(names) == 19

    # The table is found again even if the packed pictures are gone.
    table = (root / "again" / "studio" / "trained-on.csv").read_bytes()
    shutil.rmtree(root / "again" / "data")
    assert own.post(f"/runs/{key}/train/resume", data={"steps": "3"}).status_code == 200
    finished(root / "again", 3)
    assert open_packed(root / "again" / "data").names == names
    assert (root / "again" / "studio" / "trained-on.csv").read_bytes() == table

    taught(own, key, "once more", {"do": "give", "pictures": [5], "domain": 1})
    finished(root / "once more", 2)
    assert label_names(root / "once more") == ["crow", "domain 001"]
    assert (root / "again" / "studio" / "trained-on.csv").read_bytes() == table


def test_overwrite_keeps_the_table_that_it_trains_on(own, root):
    taught(own, "birds", "again", {"do": "name", "domain": 0, "name": "crow"})
    finished(root / "again", 2)
    table = root / "again" / "studio" / "trained-on.csv"
    before = table.read_bytes()
    words = ["train", str(table), "--labels", "csv", "--out", str(root / "again"), "--overwrite"]
    words += ["--preset", str(root / "again" / "config.toml"), "--steps", "2", "--quiet"]
    assert main(words) == 0
    assert table.read_bytes() == before
    assert main(["train", "--resume", str(root / "again"), "--steps", "3", "--quiet"]) == 0


def test_a_training_with_few_pictures_is_carried_out_with_smaller_batches(own, root, tmp_path, monkeypatch):
    tiny = tmp_path / "tiny.toml"
    tiny.write_text(tiny_config("small", batch_size=16, guide_only_batch_size=128).to_toml())
    monkeypatch.setattr(train, "PRESETS", (str(tiny),))  # `small` itself would take a minute
    fields = {"folder": "0/crows", "preset": str(tiny), "name": "few", "steps": "2", "domains": "2"}
    answer = own.post("/train/start", data=fields)
    assert answer.json()["note"].startswith(
        f"crows has only 10 pictures, too few for a batch of the preset {tiny}"
    )
    assert "so a batch takes 8 of them" in answer.json()["note"]
    finished(root / "few", 2)
    optimisers = RunFolder(root / "few").read_config().optimisers
    assert (optimisers.batch_size, optimisers.guide_only_batch_size) == (8, 8)


def test_a_batch_takes_no_more_pictures_than_teach_has_left(own, root):
    assert RunFolder(root / "birds").read_config().optimisers.guide_only_batch_size == 6
    taught(own, "birds", "few", {"do": "leave_out", "pictures": list(range(15))})
    finished(root / "few", 2)
    optimisers = RunFolder(root / "few").read_config().optimisers
    assert (optimisers.batch_size, optimisers.guide_only_batch_size) == (4, 4)
