"""A published data set, chosen by name: training, resuming, and measuring on its validation pictures."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tiny_model import save_tiny, write
from tiny_run import flags
from tunit.cli import main
from tunit.config import read_config
from tunit.data.layouts import layout_config
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.packed import open_packed
from tunit.evaluation.during_training import Evaluator
from tunit.evaluation.labelled import square_settings
from tunit.features.feature_networks import FeatureNetwork
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")
LAYOUT = ["--layout", "two-domains"]


@pytest.fixture(scope="module")
def seasons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training pictures and eight test pictures of each domain."""
    root = tmp_path_factory.mktemp("seasons")
    for seed in range(32):
        split = "train" if seed < 16 else "test"
        write(root / split / ("summer" if seed % 2 else "winter") / f"{seed}.png", seed)
    return root


def test_a_run_trains_on_the_training_pictures_and_resumes_with_them(
    seasons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    short = {"steps": 2, "guide_only_until": 1, "average_from": 1, "sample_every": 0, "checkpoint_every": 1}
    assert main(["train", str(seasons), "--out", str(run), *LAYOUT, "--quiet", *flags(**short)]) == 0
    config = read_config(str(run / "config.toml"))
    assert (config.data.layout, config.data.split, config.augment.hue) == ("two-domains", "train", 0.0)
    before = (run / "pictures.csv").read_text()
    assert before.count("train/summer/") == before.count("train/winter/") == 8
    assert "test/" not in before
    shutil.rmtree(run / "data")
    assert main(["train", "--resume", str(run), "--steps", "3", "--quiet"]) == 0
    assert (run / "pictures.csv").read_text() == before
    words = ["train", str(tmp_path), "--out", str(run), "--overwrite", *LAYOUT, *flags(**short)]
    assert main(words) == 2
    assert "two-domains expects two folders in train/" in capsys.readouterr().err
    assert (run / "pictures.csv").is_file()


def coarse(*_: object, **__: object) -> FeatureNetwork:
    """A stand-in that is much faster than a real network."""
    return FeatureNetwork("coarse", lambda x: torch.nn.functional.avg_pool2d(x, 8), torch.device("cpu"))


def test_a_run_is_measured_on_the_validation_pictures(
    seasons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path)
    monkeypatch.setattr("tunit.evaluation.of_run.load_feature_network", coarse)
    words = ["evaluate", str(tmp_path), str(seasons), *LAYOUT, "--sources", "2", "--device", "cpu"]
    assert main([*words, "--train", str(seasons)]) == 0
    found = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert set(found["groups"]) == {"summer", "winter"}
    for folder, split in (("held", "test"), ("train", "train")):
        index = json.loads((tmp_path / "evaluation" / folder / "index.json").read_text())
        assert len(index["names"]) == 16
        assert all(name.startswith(f"{split}/") for name in index["names"])


def test_evaluation_during_training_uses_the_validation_pictures_of_the_folder(
    seasons: Path, tmp_path: Path
) -> None:
    model, run = save_tiny(tmp_path), RunFolder(tmp_path)
    run.config.write_text(layout_config("paper", {"layout": "two-domains"}).to_toml())
    run.about.write_text(json.dumps({"source": str(seasons)}))
    pack_pictures(seasons, run.data, square_settings(32, "stretch", (0, 0, 0)), workers=1)
    evaluator = Evaluator(run, coarse())
    held, train = evaluator._pictures(model, open_packed(run.data))
    assert (len(held.images), held.names) == (16, ["summer", "winter"])
    assert len(train.images) == 32
