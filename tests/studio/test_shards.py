"""The shards of a run's pictures: the studio reads them only in the folders that it was given."""

import json

import pytest
from starlette.testclient import TestClient

from tiny_run import write_pictures
from tunit.cli import main
from tunit.studio import train
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace

ADDRESS = "http://127.0.0.1:8765"
ELSEWHERE = "which is no folder of this studio: give it by --pictures"
# By the kind of place: where a run's index says that its shards are, and how the answer ends ("" for a picture).
PLACES = {
    "given": ("{}/given/set", ""),
    "own": ("", ""),
    "outside": ("{}/outside", ELSEWHERE),
    "of another kind": ("local://{}/outside", ELSEWHERE),
    "relative": ("given/set", ELSEWHERE),
    "linked": ("{}/given/links", "is a link that leads out of the folders of this studio: it is not read"),
}


@pytest.mark.parametrize("place", PLACES)
def test_shards_outside_of_the_folders_of_the_studio_are_not_shown(tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, outside, given = tmp_path / "runs" / "a" / "data", tmp_path / "outside", tmp_path / "given" / "set"
    photos = write_pictures(tmp_path / "photos", number=3)
    for target in (data, outside, given):
        words = ["prepare", photos, "--out", target, "--shards", "2", "--image-size", "32"]
        assert main([str(word) for word in words]) == 0
    for name in ("model.safetensors", "run.json"):
        (data.parent / name).touch()
    begun = []
    monkeypatch.setattr(train, "begin", lambda workspace, words, run: begun.append(run.name))
    links = tmp_path / "given" / "links"
    links.mkdir()
    for shard in outside.glob("*.tar"):
        (links / shard.name).symlink_to(shard)
    root, end = PLACES[place]
    about = json.loads((data / "index.json").read_text())
    about["shards"]["root"] = root.format(tmp_path)
    (data / "index.json").write_text(json.dumps(about))
    workspace = Workspace(tmp_path / "runs", (tmp_path / "given",), device="cpu")
    with TestClient(create_app(workspace), base_url=ADDRESS) as client:
        answers = [client.get("/runs/a/picture/0"), client.post("/runs/a/train/resume", data={"steps": "9"})]
    if end:
        assert [answer.status_code for answer in answers] == [400, 400]
        assert all(answer.json()["error"].endswith(end) for answer in answers)
    else:
        assert [answer.status_code for answer in answers] == [200, 200]
    assert begun == ["a"] * (not end)
