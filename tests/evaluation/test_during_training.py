"""Evaluation during training: its figures are in the metrics, and the best model is kept, also after a resume."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.data.layouts import make_part
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.packed import open_packed
from tunit.data.packing.search import Search
from tunit.data.packing.sharded import ShardedImages
from tunit.data.packing.shards import pack_shards
from tunit.errors import RunError
from tunit.evaluation import during_training
from tunit.evaluation.during_training import Evaluator
from tunit.evaluation.labelled import evenly_chosen, labelled
from tunit.evaluation.result import Labelled
from tunit.features.feature_networks import FeatureNetwork
from tunit.methods.inference import evenly_spread
from tunit.methods.model_file import load_model
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORK = FeatureNetwork("coarse", lambda x: torch.nn.functional.avg_pool2d(x, 8), torch.device("cpu"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    for i, name in enumerate("ab"):
        write_pictures(folder / "pictures" / name, seed=i, number=24)
    with_labels = tiny_config(labels="folders", domains=2)
    evaluator = Evaluator(RunFolder(folder / "watched"), NETWORK)
    start_run(
        folder / "pictures", folder / "watched", with_labels, evaluate=evaluator, evaluate_every=4, quiet=True
    )
    start_run(folder / "pictures", folder / "plain", with_labels, quiet=True)
    return folder


def test_figures_are_added_to_the_metrics(runs):
    rows = [json.loads(line) for line in (runs / "watched" / "metrics.jsonl").read_text().splitlines()]
    measured = [row["step"] for row in rows if "evaluation/mFID" in row]
    assert measured == [4, 8, 12]


def test_the_best_model_has_the_smallest_score(runs):
    rows = [json.loads(line) for line in (runs / "watched" / "metrics.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["evaluation/mFID"] for row in rows if "evaluation/mFID" in row}
    best = json.loads((runs / "watched" / "best" / "best.json").read_text())
    assert best["value"] == pytest.approx(min(scores.values()))
    assert scores[best["step"]] == pytest.approx(best["value"])
    model = json.loads((runs / "watched" / "best" / "model.json").read_text())
    assert model["step"] == best["step"]


def test_evaluation_does_not_change_the_training(runs):
    watched, plain = (
        read_tensors(checkpoints(runs / name / "checkpoints")[-1])[0] for name in ("watched", "plain")
    )
    assert all(torch.equal(watched[name], plain[name]) for name in plain)


@pytest.mark.parametrize("about", [{"source": None}, {}])
def test_a_run_that_does_not_say_where_its_published_set_is_gets_one_sentence(
    runs, tmp_path, monkeypatch, about
):
    shutil.copytree(runs / "plain", tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    monkeypatch.setattr(during_training, "part_of", lambda data: make_part("animal-faces-10", "train"))
    evaluator = Evaluator(RunFolder(tmp_path / "run"), NETWORK)
    with pytest.raises(RunError, match=r"run\.json does not say where the pictures of the run are: set"):
        evaluator._pictures(load_model(tmp_path / "run"), open_packed(tmp_path / "run" / "data"))


@pytest.mark.parametrize("held", [False, True])
def test_translations_are_compared_with_at_most_so_many_training_pictures(
    runs, tmp_path, monkeypatch, capsys, held
):
    monkeypatch.setattr(during_training, "MOST_REAL", 20)
    evaluator = Evaluator(RunFolder(tmp_path), NETWORK, runs / "pictures" if held else None)
    shutil.copytree(runs / "plain", tmp_path, dirs_exist_ok=True)
    packed, model = open_packed(tmp_path / "data"), load_model(tmp_path)
    for _ in range(2):
        real = evaluator._pictures(model, packed)[1]
    rows = evenly_spread(48, 20)
    np.testing.assert_array_equal(real.images, packed.images[rows])
    assert np.bincount(real.classes).tolist() == [10, 10]
    assert capsys.readouterr().err.count("compare with 20 of 48 real pictures, evenly spread") == 1


def test_pictures_in_shards_are_read_when_they_are_needed(runs, tmp_path, monkeypatch):
    """They may be many more than fit into the memory."""
    config = tiny_config(labels="folders", domains=2)
    search = Search(runs / "pictures", pack_settings(config))
    shards = pack_shards(search, tmp_path / "shards", 7, workers=1)
    whole = open_packed(runs / "plain" / "data")
    monkeypatch.setattr(ShardedImages, "_read", lambda self, rows: pytest.fail(f"{len(rows)} rows are read"))
    pictures = labelled(shards)
    assert evenly_chosen(pictures, 48) is pictures
    some, rows = evenly_chosen(pictures, 47), evenly_spread(48, 47)
    assert (len(some.images), some.images.shape, some.images.ndim) == (47, (47, 32, 32, 3), 4)
    np.testing.assert_array_equal(some.classes, whole.labels[rows])
    monkeypatch.undo()
    np.testing.assert_array_equal(some.images[40:], whole.images[rows][40:])
    np.testing.assert_array_equal(some.images[np.array([3, 1])], whole.images[rows][[3, 1]])
    np.testing.assert_array_equal(some.images[5], whole.images[rows[5]])


def test_a_worse_model_does_not_replace_the_best_one_from_before(tmp_path):
    run = RunFolder(tmp_path)
    evaluator = Evaluator(run, NETWORK)
    assert evaluator._is_best("mFID", 5.0)
    (tmp_path / "best").mkdir()
    about = {"score": "mFID", "features": "coarse", "value": 4.0}
    (tmp_path / "best" / "best.json").write_text(json.dumps(about))
    assert not evaluator._is_best("mFID", 5.0)
    assert evaluator._is_best("mFID", 3.0)
    assert evaluator._is_best("FID of all", 9.0)  # scores with different names are not compared


def test_scores_on_other_pictures_are_not_compared(runs, tmp_path, capsys):
    """A resumed run may have other held-back pictures; a score on harder ones is no worse model."""
    best = json.loads((runs / "watched" / "best" / "best.json").read_text())
    assert len(best["pictures"]) == 64
    evaluator = Evaluator(RunFolder(tmp_path), NETWORK)
    evaluator._sets = (Labelled(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), ["a", "b"]),) * 2
    (tmp_path / "best").mkdir()
    about = tmp_path / "best" / "best.json"
    about.write_text(
        json.dumps({"score": "mFID", "features": "coarse", "value": 4.0, "step": 40, "pictures": "0" * 64})
    )
    assert evaluator._is_best("mFID", 5.0)
    assert evaluator._score({"FID of all": 3.0}) == ("FID of all", 3.0)
    evaluator._remark_if_not_comparable(50)
    said = capsys.readouterr().err
    assert "step 50: the best model so far (step 40) was measured with other" in said
    assert "another number of real pictures" in said
    about.write_text(json.dumps({"score": "mFID", "value": 4.0} | evaluator._measured_with()))
    assert not evaluator._is_best("mFID", 5.0)
    evaluator._remark_if_not_comparable(50)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("there", "is_compared"), [(2, True), (9, False)])
def test_scores_against_another_number_of_real_pictures_are_not_compared(tmp_path, there, is_compared):
    """A score of before, which does not name the number, was measured against all real pictures."""
    evaluator = Evaluator(RunFolder(tmp_path), NETWORK)
    evaluator._sets = (Labelled(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), ["a", "b"]),) * 2
    evaluator._all_real = there
    (tmp_path / "best").mkdir()
    about = {"score": "mFID", "value": 4.0} | evaluator._measured_with()
    before = {name: value for name, value in about.items() if name != "real"}
    for best, same in ((about, True), (about | {"real": 3}, False), (before, is_compared)):
        (tmp_path / "best" / "best.json").write_text(json.dumps(best))
        assert evaluator._is_best("mFID", 5.0) is not same


def test_a_less_important_score_does_not_replace_the_best(tmp_path):
    evaluator = Evaluator(RunFolder(tmp_path), NETWORK)
    assert evaluator._score({"FID of all": 3.0}) == ("FID of all", 3.0)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "best.json").write_text(
        json.dumps({"score": "mFID", "features": "coarse", "value": 4.0})
    )
    assert evaluator._score({"FID of all": 3.0, "mFID": 5.0}) == ("mFID", 5.0)
    assert evaluator._score({"FID of all": 3.0}) is None  # as for a model that has collapsed since then
    (tmp_path / "best" / "best.json").write_text("[]")
    assert evaluator._is_best("mFID", 5.0)


def test_a_failed_evaluation_is_reported_and_training_continues(tmp_path, capsys):
    evaluator = Evaluator(RunFolder(tmp_path / "nowhere"), NETWORK)
    assert evaluator(SimpleNamespace(step=4)) == {}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tunit: step 4: the model could not be measured (")


def test_a_best_model_whose_folder_cannot_be_made_does_not_end_the_training(runs, tmp_path, capsys):
    evaluator = Evaluator(RunFolder(tmp_path / "run"), NETWORK)

    def evaluate(state):
        """As the evaluator, with a file in the place of the folder."""
        (tmp_path / "run" / "best").write_text("")
        return evaluator(state)

    start_run(
        runs / "pictures", tmp_path / "run", tiny_config(), evaluate=evaluate, evaluate_every=12, quiet=True
    )
    path = tmp_path / "run" / "best"
    assert f"step 12: the model could not be measured ({path} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "memory ran out"),
        (torch.OutOfMemoryError("out of memory"), "out of memory"),
        (torch.linalg.LinAlgError("no convergence"), "no convergence"),
        (OSError(28, "No space left on device", "a file"), "No space left on device"),
    ],
)
def test_an_evaluation_that_fails_does_not_end_the_training(tmp_path, monkeypatch, capsys, error, reason):
    def fails(state):
        raise error

    evaluator = Evaluator(RunFolder(tmp_path), NETWORK)
    monkeypatch.setattr(evaluator, "_measured", fails)
    assert evaluator(SimpleNamespace(step=4)) == {}
    assert f"could not be measured ({reason})" in capsys.readouterr().err
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        evaluator(SimpleNamespace(step=4))


def test_a_checkpoint_is_saved_before_the_evaluation_of_the_same_step(tmp_path):
    """And memory that runs out there is not blamed on the size of a step."""

    def fails(state):
        raise MemoryError("of the evaluation")

    pictures = write_pictures(tmp_path / "pictures", number=8)
    with pytest.raises(MemoryError, match="of the evaluation"):
        start_run(pictures, tmp_path / "run", tiny_config(), evaluate=fails, evaluate_every=5, quiet=True)
    assert [path.stem for path in checkpoints(tmp_path / "run" / "checkpoints")] == ["step_00000005"]
