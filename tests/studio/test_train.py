"""Train: its forms, what it shows about runs, and what it refuses."""

import json
import os
import shutil
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from tiny_run import write_pictures
from tunit.cli import main
from tunit.data.finding.find import find_pictures
from tunit.studio import command_lines, jobs, train, training_folders, workspace
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace

ADDRESS = "http://127.0.0.1:8765"
# Replaces tunit: prints its arguments, and in place of a training waits for the signal to stop.
FAKE = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60 if sys.argv[1] == 'train' else 0)"


@pytest.fixture
def root(runs, tmp_path):
    """A folder of runs for this test only, with one run in it."""
    shutil.copytree(runs / "birds", tmp_path / "runs" / "birds")
    return tmp_path / "runs"


@pytest.fixture
def fake(monkeypatch, root):
    """Starts a program that only waits, in place of a training."""
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", FAKE))
    yield
    for path in root.glob("*/studio/job.json"):
        if jobs.state_of(path.parent.parent).runs:
            jobs.stop(path.parent.parent)


def state_of(own, key, **query):
    found = own.get("/train/runs", params=query).json()
    return next(run for run in found["runs"] if run["key"] == key)


def wait_for(own, key, state):
    until = time.monotonic() + 60
    while (found := state_of(own, key))["state"] != state:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def test_a_training_gets_the_forms_settings_and_is_stopped(own, fake, root, runs):
    fields = {
        "folder": "0/crows",
        "preset": "small",
        "name": "my birds",
        "steps": "7",
        "domains": "",
        "seed": "3",
    }
    answer = own.post("/train/start", data=fields)
    assert answer.status_code == 200
    key = answer.json()["run"]
    command = json.loads((root / "my birds" / "studio" / "job.json").read_text())["command"]
    assert command[3:] == [
        "train", str(runs.parent / "pictures" / "crows"), "--out", str(root / "my birds"), "--preset", "small",
        "--seed", "3", "--domains", "auto", "--steps", "7", "--batch-size", "8", "--guide-only-batch-size", "8",
    ]  # fmt: skip
    assert state_of(own, key)["state"] == "starting"
    assert own.post("/train/start", data=fields).json()["error"].startswith("my birds exists already")
    assert own.post(f"/runs/{key}/train/resume").status_code == 400
    assert own.post(f"/runs/{key}/train/stop").status_code == 200
    wait_for(own, key, "stopped")
    assert "before its first step" in own.post(f"/runs/{key}/train/resume").json()["error"]


def test_a_new_run_may_take_the_name_of_one_that_was_stopped_before_its_first_step(own, fake, root):
    fields = {"folder": "0/crows", "preset": "small", "name": "new"}
    assert own.post("/train/start", data=fields).status_code == 200
    assert not state_of(own, "new")["free"]
    assert own.post("/runs/new/train/stop").status_code == 200
    assert wait_for(own, "new", "stopped")["free"]
    (root / "new" / ".new").mkdir()  # what a process leaves that is killed while it packs pictures
    (root / "new" / "studio" / "trained-on.csv").write_text("picture,label,by\n")  # of a start by Teach
    assert own.post("/train/start", data=fields | {"steps": "8"}).status_code == 200
    assert state_of(own, "new")["state"] == "starting"
    assert "exists already" in own.post("/train/start", data=fields).json()["error"]
    command = json.loads((root / "new" / "studio" / "job.json").read_text())["command"]
    assert command[command.index("--steps") + 1] == "8"
    assert not (root / "new" / "studio" / "trained-on.csv").exists()  # this run is not trained on it


def test_a_new_run_may_take_the_name_of_one_that_failed_at_its_start(own, root, monkeypatch):
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", "raise SystemExit('tunit: no')"))
    fields = {"folder": "0/crows", "preset": "small", "name": "new"}
    for _ in range(2):
        assert own.post("/train/start", data=fields).status_code == 200
        assert wait_for(own, "new", "failed")["free"]


@pytest.mark.parametrize(
    "place",
    ["notes.txt", "config.toml", "checkpoints/x", ".new/ready", ".new/moving", "studio/labels.csv", "studio"],
)
def test_a_folder_that_holds_more_than_a_start_leaves_keeps_its_name(own, fake, root, tmp_path, place):
    run, fields = root / "new", {"folder": "0/crows", "preset": "small", "name": "new"}
    assert own.post("/train/start", data=fields).status_code == 200
    jobs.stop(run)
    wait_for(own, "new", "stopped")
    if place == "studio":
        (run / "studio").rename(tmp_path / "elsewhere")
        (run / "studio").symlink_to(tmp_path / "elsewhere")
    else:
        (run / place).parent.mkdir(exist_ok=True)
        (run / place).write_text("")
    assert "exists already" in own.post("/train/start", data=fields).json()["error"]


def test_the_number_of_trainings_at_once_is_limited(own, fake):
    fields = {"folder": "0/crows", "preset": "small"}
    answers = [own.post("/train/start", data=fields | {"name": f"n{i}"}) for i in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [400]
    assert "4 trainings run already" in answers[4].json()["error"]


def test_a_training_that_is_not_listed_has_begun_all_the_same(own, fake, root, monkeypatch):
    monkeypatch.setattr(workspace, "MOST_RUNS", 1)
    answer = own.post("/train/start", data={"folder": "0/crows", "preset": "small", "name": "new"})
    assert (answer.status_code, answer.json()["run"]) == (200, "")
    assert jobs.state_of(root / "new").runs


@pytest.mark.parametrize("address", ["/runs/birds/train/resume", "/train/start"])
def test_of_two_equal_requests_at_once_only_one_starts_a_training(own, fake, monkeypatch, address):
    start, started = jobs.start, []

    def slowly(command, run):
        """As jobs.start, after the other request has had the time for its checks."""
        started.append(command)
        time.sleep(1)
        return start(command, run)

    monkeypatch.setattr(jobs, "start", slowly)
    fields = {"folder": "0/crows", "preset": "small", "name": "new", "steps": "14"}
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: own.post(address, data=fields), range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert len(started) == 1


def test_a_finished_run_is_shown_and_resumes_only_with_more_steps(own, fake, root):
    found = own.get("/train/runs", params={"run": "birds"}).json()
    assert [(run["state"], run["step"], run["steps"]) for run in found["runs"]] == [("finished", 12, 12)]
    assert "<polyline" in found["charts"]
    about = found["chosen"][0]
    assert about["samples"] == [5, 10, 12]
    sample = own.get("/runs/birds/samples/step_00000012.png")
    assert sample.content == (root / "birds" / "samples" / "step_00000012.png").read_bytes()
    assert "give a larger number" in own.post("/runs/birds/train/resume").json()["error"]
    assert "give more than that" in own.post("/runs/birds/train/resume", data={"steps": "12"}).json()["error"]
    assert "not in training" in own.post("/runs/birds/train/stop").json()["error"]
    assert own.post("/runs/birds/train/resume", data={"steps": "14"}).status_code == 200
    command = json.loads((root / "birds" / "studio" / "job.json").read_text())["command"]
    assert command[3:] == ["train", "--resume", str(root / "birds"), "--steps", "14"]


@pytest.mark.parametrize("steps", ["", "12"])
def test_a_run_whose_last_save_failed_is_not_finished_and_can_be_completed(own, fake, root, steps):
    birds = root / "birds"
    for name in ("checkpoints/step_00000012.safetensors", "model.json", "model.safetensors"):
        (birds / name).unlink()
    found = state_of(own, "birds")
    assert (found["state"], found["step"], found["steps"]) == ("failed", 12, 12)
    assert "not saved" in found["reason"]
    (birds / "studio").mkdir(exist_ok=True)
    job = {"process": 4194304, "host": "elsewhere", "born": "1", "command": []}
    (birds / "studio" / "job.json").write_text(json.dumps(job))
    (birds / "studio" / "train.log").write_text("tunit: the disk is full: make space\n")
    assert state_of(own, "birds")["reason"] == "the disk is full: make space"
    assert own.post("/runs/birds/train/resume", data={"steps": steps}).status_code == 200


def test_a_process_that_has_freed_the_lock_after_its_last_step_is_not_starting(own, fake, root):
    assert own.post("/runs/birds/train/resume", data={"steps": "14"}).status_code == 200
    assert state_of(own, "birds")["state"] == "starting"  # at step 12 of 12, until it has read its new length
    with (root / "birds" / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 14}) + "\n")
    assert state_of(own, "birds")["state"] == "training"
    jobs.stop(root / "birds")
    assert state_of(own, "birds")["state"] in ("stopping", "finished")


def test_a_training_that_ends_while_its_state_is_read_has_not_failed(root, monkeypatch):
    birds = root / "birds"
    (birds / "studio").mkdir(exist_ok=True)
    job = {"process": 4194304, "host": "here", "born": "1", "command": []}
    (birds / "studio" / "job.json").write_text(json.dumps(job))
    seen = []
    monkeypatch.setattr(jobs, "step_of", lambda folder: seen.append("step") or 12)
    monkeypatch.setattr(jobs, "owner_of", lambda path: seen.append("lock"))
    assert jobs.state_of(birds).state == jobs.FINISHED
    assert seen.index("lock") < seen.index("step")


def test_a_training_that_ends_while_its_state_is_read_is_not_in_training(root, monkeypatch):
    """Its process was there at first; then it was gone, so nobody could know any more that it was asked to stop."""
    birds = root / "birds"
    (birds / "studio").mkdir(exist_ok=True)
    (birds / "studio" / "stop.json").write_text("{}")
    processes = [("here", 4194304)]
    monkeypatch.setattr(jobs, "_process", lambda run, job: processes.pop() if processes else None)
    monkeypatch.setattr(jobs, "_has_begun", lambda folder: True)
    assert jobs.state_of(birds).state == jobs.FINISHED


def test_all_given_folders_are_offered_before_those_in_them(root, tmp_path, monkeypatch):
    given = tmp_path / "one", tmp_path / "two"
    for folder in (*(given[0] / str(number) / "deep" for number in range(5)), given[1] / "in"):
        folder.mkdir(parents=True)
    workspace = Workspace(root, given, device="cpu")
    all_of_one = [f"0/{number}" for number in range(5)] + [f"0/{number}/deep" for number in range(5)]
    addresses = [address for address, _ in training_folders.folders_of(workspace)]
    assert addresses == ["0/.", "1/.", *all_of_one, "1/in"]
    monkeypatch.setattr(training_folders, "MOST", 4)
    assert training_folders.folders_of(workspace) == [
        ("0/.", str(given[0])), ("1/.", str(given[1])), ("0/0", "one/0"), ("0/1", "one/1"),
    ]  # fmt: skip


def test_a_folder_that_may_not_be_searched_is_left_out(root, tmp_path, monkeypatch):
    for place in (root, tmp_path / "given"):
        (place / "private").mkdir(parents=True)
    stat = os.stat

    def refusing(path, *args, **kwargs):
        """As os.stat, for a user who may not search folders called private; the tests may run as root."""
        if not isinstance(path, int) and "private/" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return stat(path, *args, **kwargs)

    workspace = Workspace(root, (tmp_path / "given",), device="cpu")
    monkeypatch.setattr(os, "stat", refusing)
    with TestClient(create_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as client:
        assert [run["name"] for run in client.get("/train/runs").json()["runs"]] == ["birds"]
        assert client.get("/train").status_code == 200


def test_alarms_are_shown_also_those_of_a_growing_log(own, root):
    log = root / "birds" / "metrics.jsonl"
    rows = [
        {"step": 13, "alarm": "collapse", "sentence": "<b>collapsing</b>", "remedy": "wait"},
        {"step": 14, "alarm": "style", "sentence": "still", "remedy": "wait"},
        {"step": 15, "alarm": "collapse", "over": True},
    ]
    for row in rows:
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        found = own.get("/train/runs", params={"run": "birds"}).json()
    alarms = found["chosen"][0]["alarms"]
    assert [(alarm["sentence"], alarm["over"]) for alarm in alarms] == [
        ("still", None),
        ("<b>collapsing</b>", 15),
    ]


def test_several_runs_are_in_the_same_charts(own, root):
    shutil.copytree(root / "birds", root / "more birds")
    keys = [run["key"] for run in own.get("/train/runs").json()["runs"]]
    charts = own.get("/train/runs", params={"run": keys}).json()["charts"]
    first = charts.split("</figure>")[0]
    assert first.count("<polyline") == 2
    assert "more birds" in first


def test_a_chosen_run_that_cannot_be_shown_is_left_out_with_its_reason(own, root, tmp_path):
    shutil.copytree(root / "birds", root / "linked")
    log = root / "linked" / "metrics.jsonl"
    log.rename(tmp_path / "outside.jsonl")
    log.symlink_to(tmp_path / "outside.jsonl")
    found = own.get("/train/runs", params={"run": ["birds", "linked", "deleted"]}).json()
    assert [run["key"] for run in found["runs"]] == ["birds", "linked"]
    assert [run["key"] for run in found["chosen"]] == ["birds"]
    assert found["left_out"] == [f"linked/metrics.jsonl is a link that leads out of {root}: it is not read"]


@pytest.mark.parametrize(
    "name", ["studio/train.log", "studio/job.json", "studio/seen.safetensors", "domains.json", ".lock"]
)
def test_nothing_of_a_listed_run_is_read_through_a_link_that_leads_out(own, root, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("the password is swordfish\n")
    (root / "birds" / "studio").mkdir(exist_ok=True)
    if name != "studio/job.json":
        (root / "birds" / "studio" / "job.json").write_text('{"process": 999999, "host": "x", "born": "1"}')
    (root / "birds" / name).unlink(missing_ok=True)
    (root / "birds" / name).symlink_to(outside)
    run = state_of(own, "birds")
    assert run["reason"] == f"birds/{name} is a link that leads out of {root}: it is not read"
    assert (run["state"], run["steps"], run["model"], run["alarms"]) == ("unread", 0, False, [])


def test_a_run_that_is_not_read_does_not_count_as_a_training(own, fake, root, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "MOST_AT_ONCE", 1)
    fields = {"folder": "0/crows", "preset": "small"}
    assert own.post("/train/start", data=fields | {"name": "one"}).status_code == 200
    log = root / "one" / "studio" / "train.log"
    log.rename(tmp_path / "outside.log")
    log.symlink_to(tmp_path / "outside.log")
    assert own.post("/train/start", data=fields | {"name": "two"}).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"folder": ""}, {"folder": "0/../.."}, {"folder": "0//etc"}, {"folder": "1/x"}, {"folder": "/etc"},
        {"folder": "0/nothing"}, {"folder": "0/crows\0"}, {"folder": "²/crows"}, {"folder": "0/linked"},
        {"name": "../x"}, {"name": ""}, {"name": "birds"}, {"name": "--overwrite"}, {"preset": "--quiet"},
        {"preset": "/etc/passwd"}, {"preset": "table1-a"}, {"steps": "1e9"}, {"steps": "-1"}, {"steps": "0"},
        {"domains": "x"}, {"image_size": "33"}, {"image_size": "0"}, {"seed": "9" * 20},
    ],
)  # fmt: skip
def test_impossible_trainings_are_one_sentence_and_nothing_starts(own, fake, runs, root, changed):
    link = runs.parent / "pictures" / "linked"
    if not link.is_symlink():
        link.symlink_to("/etc")
    try:
        fields = {"folder": "0/crows", "preset": "small", "name": "new"} | changed
        answer = own.post("/train/start", data=fields)
    finally:
        link.unlink()
    assert answer.status_code == 400
    assert len(answer.json()["error"].splitlines()) == 1
    assert sorted(path.name for path in root.iterdir()) == ["birds"]


def test_pictures_linked_from_outside_the_folders_are_refused(root, tmp_path, fake):
    folder = write_pictures(tmp_path / "given" / "photos", number=2)
    outside = write_pictures(tmp_path / "outside", number=1)
    (folder / "secret.png").symlink_to(outside / "000.png")
    workspace = Workspace(root, (tmp_path / "given",), device="cpu")
    with TestClient(create_app(workspace), base_url=ADDRESS) as client:
        for address, more in (("/train/look", {}), ("/train/start", {"name": "new"})):
            answer = client.post(address, data={"folder": "0/photos", "preset": "small"} | more)
            assert "leads out of the folders" in answer.json()["error"]
    allowed = Workspace(root, (tmp_path / "given", tmp_path / "outside"), device="cpu")
    with TestClient(create_app(allowed), base_url=ADDRESS) as client:
        fields = {"folder": "0/photos", "preset": "small", "name": "new"}
        assert client.post("/train/start", data=fields).status_code == 200


def test_a_folder_is_listed_only_once_for_its_links_and_its_number_of_pictures(tmp_path, root, monkeypatch):
    plain = write_pictures(tmp_path / "plain", number=3)
    write_pictures(plain / "below", number=2)
    (plain / "notes.txt").write_text("no picture")
    archives = tmp_path / "archives"
    archives.mkdir()
    with zipfile.ZipFile(archives / "birds.zip", "w") as archive:
        for i in range(3):
            archive.write(plain / f"00{i}.png", f"00{i}.png")
    (empty := tmp_path / "empty").mkdir()
    place = Workspace(root, (tmp_path,), device="cpu")
    for folder, number in ((plain, 5), (archives, 3), (empty, 0)):
        files = training_folders.check_links(place, folder)
        assert training_folders.number_of_pictures(folder, files) == number
    monkeypatch.delattr(training_folders, "find_pictures")
    assert training_folders.number_of_pictures(plain, training_folders.check_links(place, plain)) == 5


def test_links_are_checked_in_folders_that_links_lead_to(root, tmp_path, fake):
    """photos/more leads to given/other, which is allowed; other/out leads out. Links in a circle end."""
    folder = write_pictures(tmp_path / "given" / "photos", number=2)
    other = write_pictures(tmp_path / "given" / "other", number=1)
    write_pictures(tmp_path / "outside", number=1)
    (folder / "more").symlink_to(other)
    (other / "circle").symlink_to(folder)
    fields = {"folder": "0/photos", "preset": "small", "name": "new"}
    with TestClient(
        create_app(Workspace(root, (tmp_path / "given",), device="cpu")), base_url=ADDRESS
    ) as client:
        (other / "out").symlink_to(tmp_path / "outside")
        for address in ("/train/look", "/train/start"):
            error = client.post(address, data=fields).json()["error"]
            assert error.startswith(f"{folder / 'more' / 'out'} is a link that leads out of the folders")
        (other / "out").unlink()
        assert client.post("/train/start", data=fields).status_code == 200


def test_links_that_no_training_follows_may_lead_out_but_all_others_may_not(root, tmp_path, fake):
    photos = write_pictures(tmp_path / "given" / "photos", number=2)
    outside = write_pictures(tmp_path / "outside", number=1)
    (outside / "notes.md").write_text("how the photographs were taken")
    shutil.copyfile(outside / "000.png", outside / "nameless")
    with zipfile.ZipFile(outside / "more.zip", "w") as archive:
        archive.write(outside / "000.png", "000.png")
    for place in (".git", "sorted"):
        (photos / place).mkdir()
        (photos / place / "000.png").symlink_to(outside / "000.png")
    (photos / "sorted" / ".tunit-results").touch()
    (photos / "notes.md").symlink_to(outside / "notes.md")
    (photos / "around").symlink_to(tmp_path)
    (photos / "gone.png").symlink_to(tmp_path / "gone.png")
    found = find_pictures(photos)
    assert [picture.name for picture in found.pictures] == ["000.png", "001.png"]
    fields = {"folder": "0/photos", "preset": "small"}
    with TestClient(
        create_app(Workspace(root, (tmp_path / "given",), device="cpu")), base_url=ADDRESS
    ) as client:
        assert client.post("/train/start", data=fields | {"name": "new"}).status_code == 200
        for name, target in (("photo", "nameless"), ("folder", "."), ("2.png", "000.png")):
            link = photos / name
            link.symlink_to(outside / target)
            error = client.post("/train/start", data=fields | {"name": "another"}).json()["error"]
            assert error.startswith(f"{link} is a link that leads out of the folders")
            link.unlink()


def test_a_link_to_an_archive_may_lead_out_unless_a_training_would_read_the_archive(root, tmp_path, fake):
    """It does so only if there are no pictures beside it."""
    photos = write_pictures(tmp_path / "given" / "photos", number=1)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(photos / "000.png", "more.png")
    (photos / "more.zip").symlink_to(tmp_path / "more.zip")
    assert [picture.name for picture in find_pictures(photos).pictures] == ["000.png"]
    fields = {"folder": "0/photos", "preset": "small"}
    given = Workspace(root, (tmp_path / "given",), device="cpu")
    with TestClient(create_app(given), base_url=ADDRESS) as client:
        assert client.post("/train/start", data=fields | {"name": "new"}).status_code == 200
        (photos / "000.png").unlink()
        assert [picture.name for picture in find_pictures(photos).pictures] == ["more.zip/more.png"]
        error = client.post("/train/start", data=fields | {"name": "another"}).json()["error"]
        assert error.startswith(f"{photos / 'more.zip'} is a link that leads out of the folders")


def test_a_folder_of_too_many_files_of_any_kind_is_refused(root, tmp_path, fake, monkeypatch):
    """Looking at them all would take long, even if none is a picture."""
    photos = write_pictures(tmp_path / "given" / "photos", number=2)
    for i in range(9):
        (photos / f"{i}.dat").write_bytes(b"x")
    fields = {"folder": "0/photos", "preset": "small", "name": "new"}
    with TestClient(
        create_app(Workspace(root, (tmp_path / "given",), device="cpu")), base_url=ADDRESS
    ) as client:
        monkeypatch.setattr(training_folders, "MOST_ENTRIES", 10)
        error = client.post("/train/start", data=fields).json()["error"]
        assert "holds more than 10 files: train at the command line" in error
        monkeypatch.setattr(training_folders, "MOST_ENTRIES", 11)
        assert client.post("/train/start", data=fields).status_code == 200


def test_the_files_of_a_database_may_not_be_links_that_lead_out(root, tmp_path, fake):
    (tmp_path / "given" / "base").mkdir(parents=True)
    (tmp_path / "data.mdb").write_bytes(b"x")
    (tmp_path / "given" / "base" / "data.mdb").symlink_to(tmp_path / "data.mdb")
    with TestClient(
        create_app(Workspace(root, (tmp_path / "given",), device="cpu")), base_url=ADDRESS
    ) as client:
        answer = client.post("/train/start", data={"folder": "0/base", "preset": "small", "name": "new"})
    assert "data.mdb is a link that leads out of the folders" in answer.json()["error"]


@pytest.mark.parametrize("place", ["outside", "URL", "relative", "linked", "too long", "inside"])
def test_the_shards_of_a_packed_set_may_not_be_outside_the_given_folders(root, tmp_path, fake, place):
    """Their index.json may name another place, which a training would read."""
    photos = write_pictures(tmp_path / "photos", number=3)
    given = tmp_path / "given"
    for target in (given / "set", given / "other", tmp_path / "outside"):
        assert (
            main(["prepare", str(photos), "--out", str(target), "--shards", "2", "--image-size", "32"]) == 0
        )
    roots = {
        "outside": str(tmp_path / "outside"),
        "URL": "s3://bucket/pictures",
        "relative": "given/other",
        "linked": str(given / "other"),
        "too long": f"{given}/{'x' * 300}",
        "inside": str(given / "other"),
    }
    index = given / "set" / "index.json"
    about = json.loads(index.read_text())
    about["shards"]["root"] = roots[place]
    index.write_text(json.dumps(about))
    if place == "linked":
        shard = next((given / "other").glob("*.tar"))
        shard.unlink()
        shard.symlink_to(tmp_path / "outside" / shard.name)
    workspace = Workspace(root, (given,), device="cpu")
    with TestClient(create_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as client:
        for address in ("/train/look", "/train/start"):
            answer = client.post(address, data={"folder": "0/set", "preset": "small", "name": "new"})
            if place == "inside":
                assert answer.status_code == 200
            elif place == "linked":
                assert "is a link that leads out of the folders" in answer.json()["error"]
            else:
                error = answer.json()["error"]
                assert error.startswith(f"{index} says that its shards are in '{roots[place][:100]}")
                assert error.endswith("no folder of this studio: train on it at the command line")


def test_a_look_at_the_pictures_reports_the_same_as_prepare(own, runs):
    broken = runs.parent / "pictures" / "crows" / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    try:
        answer = own.post("/train/look", data={"folder": "0/crows", "preset": "small"}).json()
    finally:
        broken.unlink()
    assert answer["good"] is True
    assert answer["lines"][0] == "10 pictures at 32 x 32"
    assert answer["lines"][1].startswith("1 left out: 1 truncated (broken.png")


def test_a_studio_for_a_single_run_cannot_create_another(root, runs, fake):
    workspace = Workspace(root / "birds", (runs.parent / "pictures",), device="cpu")
    with TestClient(create_app(workspace), base_url=ADDRESS) as client:
        fields = {"folder": "0/crows", "preset": "small", "name": "new"}
        assert "has no folder for others" in client.post("/train/start", data=fields).json()["error"]


def test_samples_outside_the_run_are_not_served(own, root, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "birds" / "samples" / "step_00000099.png").symlink_to(tmp_path / "secret.png")
    for name in ("step_00000099.png", "step_1.png", "..%2frun.json", "step_00000098.png"):
        assert own.get(f"/runs/birds/samples/{name}").status_code == 404


def test_a_restarted_studio_shows_the_same(own, fake, root, runs):
    own.post("/train/start", data={"folder": "0/crows", "preset": "small", "name": "new"})
    given = Workspace(root, (runs.parent / "pictures",), device="cpu")
    with TestClient(create_app(given), base_url=ADDRESS) as again:
        assert state_of(again, "new")["state"] == "starting"
        os.kill(json.loads((root / "new" / "studio" / "job.json").read_text())["process"], 9)
        assert (
            "killed" in wait_for(again, "new", "failed")["reason"]
            or "train" in state_of(again, "new")["reason"]
        )
