"""Which classes the pictures of an evaluation have, and what is said of pictures that are left out."""

import csv
import shutil

import numpy as np
import pytest
import torch

from tiny_model import tiny_model
from tiny_run import tiny_config, write_pictures
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.errors import DataError
from tunit.evaluation.during_training import Evaluator
from tunit.evaluation.labelled import labelled, pack_held, training_pictures
from tunit.evaluation.of_run import evaluate_run
from tunit.features.feature_networks import FeatureNetwork
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(("cats", "dogs")):
        write_pictures(folder / name, seed=i, number=8)
    return folder


def write_table(path, folder, columns, labelled_every=1):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i, picture in enumerate(sorted(folder.rglob("*.png"))):
            label = picture.parent.name if i % labelled_every == 0 else ""
            writer.writerow((picture, label))


def test_training_pictures_without_a_label_have_the_class_of_their_folder(pictures, tmp_path):
    table, run = tmp_path / "few.csv", tmp_path / "run"
    write_table(table, pictures, ("path", "label"), labelled_every=4)
    packed = pack_pictures(table, run / "data", PackSettings(size=32, labels="csv"), workers=1)
    assert (packed.labels < 0).sum() == 12
    held = labelled(
        pack_pictures(pictures, tmp_path / "held", PackSettings(size=32, labels="folders"), workers=1)
    )
    real = training_pictures(run, held, tiny_model())
    assert np.bincount(real.classes).tolist() == [8, 8]


def test_a_held_back_table_is_read_with_the_columns_of_the_run(pictures, tmp_path):
    table = tmp_path / "pictures.csv"
    write_table(table, pictures, ("where", "kind"))
    how = {"labels": "csv", "label_column": "kind", "picture_column": "where", "domains": 2}
    run = tmp_path / "run"
    network = FeatureNetwork("means", lambda x: x.mean((2, 3)), torch.device("cpu"))
    evaluator = Evaluator(RunFolder(run), network, held_back=table)
    start_run(table, run, tiny_config(**how), evaluate=evaluator, evaluate_every=12, quiet=True)
    assert evaluator._sets[0].names == ["cats", "dogs"]


def test_a_label_column_that_was_named_must_exist(pictures, tmp_path):
    table, squares = tmp_path / "pictures.csv", PackSettings(size=32)
    write_table(table, pictures, ("where", "kind"))
    assert pack_held(table, tmp_path / "a", squares, label_column="kind").classes == ["cats", "dogs"]
    with pytest.raises(DataError, match=r"has no column 'knd': .*'where', 'kind'"):
        pack_held(table, tmp_path / "b", squares, label_column="knd")
    assert pack_held(table, tmp_path / "c", squares).classes == []  # nobody has named a column


def test_evaluate_says_what_it_leaves_out(pictures, tmp_path):
    held, run, said = tmp_path / "held", tmp_path / "run", []
    shutil.copytree(pictures, held)
    (held / "cats" / "broken.png").write_bytes(b"no picture")
    start_run(pictures, run, tiny_config(), quiet=True)
    evaluate_run(run, held, translates=False, beside_trivial=False, device="cpu", say=said.append)
    assert any(f"{held}: 1 left out" in line and "broken.png" in line for line in said)
