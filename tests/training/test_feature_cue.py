"""Trainings in which a feature network helps E: what is found, said and resumed, and what needs the network."""

import hashlib
import json

import pytest
import torch

from stripes import striped_pictures, write_striped_pictures
from tiny_run import tiny_config, train_whole_and_in_parts, write_pictures
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.features import feature_networks
from tunit.features.feature_networks import FeatureNetwork
from tunit.methods import feature_cue
from tunit.reporting.write import write_report
from tunit.training import in_progress
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run
from tunit.training.logs.neighbours_found import measures_of
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = 14
STRIPED = {
    "image_size": 64,
    "domains": 3,
    "neighbours": 4,
    "neighbours_from": 0.5,
    "guide_only_until": 4,
    "average_from": 5,
    "steps": 6,
    "sample_every": 0,
    "feature_cue": "random-vgg16",
}
FILE = {"neighbours": 3, "neighbours_from": 0.5, "sample_every": 0, "feature_cue": "weights.pth.tar"}


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    return write_striped_pictures(tmp_path_factory.mktemp("striped") / "pictures", EACH)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A stand-in for MoCo's checkpoint in the working folder: its one byte scales the features."""

    def load(path, device):
        factor = path.read_bytes()[0]
        return lambda x: factor * x.mean((2, 3))

    monkeypatch.setattr(feature_networks, "_moco", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth.tar").write_bytes(b"\3")
    return tmp_path / "weights.pth.tar"


def rows_of(run):
    return [json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines()]


def test_a_training_finds_the_kinds_by_features_says_so_and_resumes_exactly(striped, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(in_progress.ProgressDisplay, "say", lambda self, text, **how: said.append(text))
    # Step 3 is after the search, and before the division.
    tensors = train_whole_and_in_parts(striped, tmp_path, tiny_config(**STRIPED), 3)
    run = tmp_path / "whole"
    assert measures_of(rows_of(run)) == [(3, ["features"])]
    assert "from step 3 on, E's neighbours are the nearest pictures by features" in said
    assert (
        sum("the network 'random-vgg16' looks at the pictures" in line for line in said) == 3
    )  # twice in parts
    assert "counted as neighbours by: features." in write_report(run).read_text("utf-8")
    kinds = torch.from_numpy(striped_pictures(EACH)[1])
    assert (kinds[tensors["neighbours"]] == kinds[:, None]).float().mean() > 0.95
    assert RunFolder(run).read_config().clustering.feature_cue == "random-vgg16"


def test_a_finished_model_does_not_need_the_network(striped, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    start_run(striped, run, tiny_config(**STRIPED), quiet=True)

    def gone(*given, **named):
        raise AssertionError("the network is not needed")

    monkeypatch.setattr(feature_cue, "load_feature_network", gone)
    assert main(["domains", str(run), str(striped)]) == 0
    first = str(striped / "000.png")
    out = str(tmp_path / "out")
    assert main(["translate", str(run), first, "--reference", first, "--out", out]) == 0
    resume_run(run, overrides={"steps": "7"}, quiet=True)  # E has trained alone
    assert checkpoints(run / "checkpoints")[-1].stem == "step_00000007"
    capsys.readouterr()


def test_a_file_is_found_again_from_another_working_folder(tmp_path, weights, monkeypatch):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    start_run(pictures, run, tiny_config(**FILE, steps=3), quiet=True)
    assert RunFolder(run).read_config().clustering.feature_cue == str(weights)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume_run(run, overrides={"steps": "6"}, quiet=True)
    assert checkpoints(run / "checkpoints")[-1].stem == "step_00000006"


def test_a_run_that_still_needs_a_missing_file_is_not_resumed(tmp_path, weights):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    start_run(pictures, run, tiny_config(**FILE, steps=1), quiet=True)
    weights.rename(tmp_path / "moved.pth.tar")
    sentence = "there is no such file now: put the file back at this path, or train a new run"
    with pytest.raises(ConfigError, match=f"feature_cue is '{weights}', .*{sentence}$"):
        resume_run(run, overrides={"steps": "6"}, quiet=True)
    assert checkpoints(run / "checkpoints")[-1].stem == "step_00000001"
    (tmp_path / "moved.pth.tar").rename(weights)
    resume_run(run, overrides={"steps": "6"}, quiet=True)


def test_a_run_is_not_resumed_with_a_file_that_has_changed(tmp_path, weights):
    pictures, run = write_pictures(tmp_path / "pictures"), RunFolder(tmp_path / "run")
    start_run(pictures, run.path, tiny_config(**FILE, steps=1), quiet=True)
    about = run.read_about()
    assert about["feature_cue_sha256"] == hashlib.sha256(b"\3").hexdigest()
    weights.write_bytes(b"\4")
    sentence = (
        f"feature_cue is '{weights}', but this file has changed since the run began, .* put that file back"
    )
    with pytest.raises(ConfigError, match=sentence):
        resume_run(run.path, overrides={"steps": "2"}, quiet=True)
    # A run of a version that did not note the file resumes, and notes nothing.
    del about["feature_cue_sha256"]
    run.about.write_text(json.dumps(about))
    resume_run(run.path, overrides={"steps": "2"}, quiet=True)
    assert "feature_cue_sha256" not in run.read_about()


def test_the_command_takes_the_setting_and_refuses_a_wrong_one_before_it_packs(tmp_path, capsys):
    pictures = write_pictures(tmp_path / "pictures")
    words = ["train", str(pictures), "--out", str(tmp_path / "run"), "--preset", "small", "--device", "cpu"]
    assert main([*words, "--feature-cue", "mocov2"]) == 2
    said = capsys.readouterr().err
    assert "feature_cue is 'mocov2', which is neither a known feature network nor a file" in said
    assert not (tmp_path / "run").exists()


def test_the_network_is_loaded_once_for_the_check_and_once_for_the_search(tmp_path, monkeypatch):
    loaded = []

    def load(name, *, device, flag):
        loaded.append((name, str(device)))
        return FeatureNetwork(name, lambda x: x.mean((2, 3)), device)

    monkeypatch.setattr(feature_cue, "load_feature_network", load)
    config = tiny_config(**FILE | {"feature_cue": "dinov2", "neighbours_every": 1})
    start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)
    assert loaded == [("dinov2", "cpu")] * 2
