"""The experiments: their data, their settings, a tiny run of everything, and the resulting table."""

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from tiny_run import write_pictures
from tunit.cli import main
from tunit.clustering.partition import k_means
from tunit.config import preset_differences, read_config
from tunit.data.packing.packed import open_packed
from tunit.errors import ConfigError, DataError
from tunit.evaluation.clusters import clustering_accuracy
from tunit.experiments import driver, label_sources, one_row
from tunit.experiments.driver import run_table
from tunit.experiments.experiment import CLASSES, FEATURES, FIRST, IMAGES, NONE, chosen
from tunit.experiments.label_sources import RESTARTS, few_of, labelled_share
from tunit.experiments.outcome import write_outcome
from tunit.experiments.paper_tables import CLUSTERING, TABLE1, TABLE2, TABLE3, TABLES
from tunit.experiments.plan import Plan, config_of, smoke
from tunit.experiments.split import Split, read_labels, split_pictures, write_table
from tunit.features.random_vgg16 import RandomVGG16

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")
SEPARATE_ROWS = [(table, row) for table in TABLES.values() for row in table.rows]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(("apples", "pears", "plums")):
        write_pictures(folder / name, seed=i, number=16)
    return folder


def test_a_fifth_of_every_class_is_held_back_and_no_picture_is_in_both_parts(pictures):
    split = split_pictures(pictures)
    assert split.classes == ["apples", "pears", "plums"]
    for name in split.classes:
        assert sum(of == name for _, of in split.held) == 3
        assert sum(of == name for _, of in split.train) == 13
    assert not {path for path, _ in split.train} & {path for path, _ in split.held}
    assert split == split_pictures(pictures)
    assert split != split_pictures(pictures, seed=1)


def test_tables_of_pictures_are_read_back(tmp_path):
    rows = [("/a, b/1.png", "x"), ("/c\u00e9/2.png", "y")]
    path = write_table(tmp_path / "t.csv", rows, {"/a, b/1.png": "cluster-1"})
    assert read_labels(path) == {"/a, b/1.png": ("x", "cluster-1"), "/c\u00e9/2.png": ("y", "")}


def test_one_class_or_few_pictures_are_refused_with_a_sentence(tmp_path):
    write_pictures(tmp_path / "one" / "a", number=5)
    with pytest.raises(DataError, match="fewer than two classes"):
        split_pictures(tmp_path / "one")
    write_pictures(tmp_path / "one" / "b", number=2, seed=1)
    with pytest.raises(DataError, match="class 'b' has 2 pictures"):
        split_pictures(tmp_path / "one")


@pytest.fixture(scope="module")
def of_others(tmp_path_factory):
    """Held-back pictures of one class of `pictures` and of another one."""
    folder = tmp_path_factory.mktemp("others")
    for i, name in enumerate(("apples", "figs")):
        write_pictures(folder / name, seed=5 + i, number=4)
    return folder


def test_held_back_pictures_of_other_classes_are_refused_before_the_training(
    pictures, of_others, tmp_path, capsys
):
    words = [
        "--data",
        pictures,
        "--held-back",
        of_others,
        "--out",
        tmp_path / "out",
        "--smoke",
        "--only",
        "G",
    ]
    assert main(["reproduce", "table1", *map(str, words)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "there are no held-back pictures of 'pears', 'plums', only of 'apples', 'figs': give" in said
    assert not (tmp_path / "out").exists()


def test_only_the_chosen_classes_need_held_back_pictures(pictures, tmp_path):
    for i, name in enumerate(("apples", "plums")):
        write_pictures(tmp_path / name, seed=5 + i, number=4)
    split = split_pictures(pictures, tmp_path)
    chosen_ones = split.of_classes(("apples", "plums"))
    assert (len(chosen_ones.train), len(chosen_ones.held)) == (32, 8)
    with pytest.raises(DataError, match="no held-back pictures of 'pears', only of 'apples', 'plums'"):
        split.of_classes(("apples", "pears"))


def test_the_columns_of_a_table_are_for_the_split_alone(pictures, tmp_path):
    rows = ["thumbnail,file,label,kind"]
    for i, path in enumerate(sorted(pictures.glob("*/*.png"))):
        rows.append(f"{path.parent / '000.png'},{path},{path.parent.name},{'old' if i % 2 else 'young'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    (tmp_path / "base.toml").write_text(
        'base = "tables-32"\n[data]\nlabel_column = "kind"\npicture_column = "file"\n'
    )
    given = (("label_column", "kind"), ("picture_column", "file"))
    for plan in (
        Plan(tmp_path / "t.csv", tmp_path, overrides=given),
        Plan(tmp_path / "t.csv", tmp_path, base=str(tmp_path / "base.toml")),
        Plan(tmp_path / "t.csv", tmp_path, held_back=tmp_path / "t.csv", overrides=given),
    ):
        split = plan.split_of(TABLE1)
        assert split.classes == ["old", "young"]
        assert len({path for path, _ in split.train + split.held}) == 48
        row = TABLE1.rows[-1]
        data = config_of(row, row.preset, plan, split, 0).data
        assert (data.label_column, data.picture_column) == ("label", "")


def test_labels_of_rows_are_not_a_setting(tmp_path):
    with pytest.raises(ConfigError, match="--labels csv cannot be chosen here"):
        Plan(tmp_path, tmp_path, overrides=(("labels", "csv"),))


def test_k_means_finds_separate_groups():
    vectors, classes = make_blobs(120, n_features=5, centers=4, cluster_std=0.3, random_state=1)
    assert clustering_accuracy(k_means(vectors, 4, 0).labels_, classes) == 1
    assert len(set(k_means(vectors[:3], 4, 0).labels_)) == 3  # no more clusters than there are pictures


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_few_labels_are_spread_evenly_over_classes_and_depend_on_the_seed(share):
    split = Split([(f"{name}{i}", name) for name in "ab" for i in range(40)], [])
    kept = few_of(split, share, 3)
    assert few_of(split, share, 3, 35).keys() >= kept.keys() or share == 1
    counts = [sum(of == name for of in kept.values()) for name in "ab"]
    assert counts == [max(1, round(40 * share))] * 2
    assert labelled_share(kept, split) == counts[0] / 40
    assert kept == few_of(split, share, 3)
    assert all(path.startswith(name) for path, name in kept.items())


@pytest.mark.parametrize(("table", "row"), SEPARATE_ROWS, ids=lambda value: value.name)
def test_every_row_has_a_preset_labels_and_a_config(table, row):
    assert row.labels in (NONE, CLASSES, IMAGES, FEATURES, FIRST)
    split = Split([("1", "a"), ("2", "b")], [])
    for preset in filter(None, (row.preset, row.first)):
        config = config_of(row, preset, Plan("data", "out"), split, 5)
        assert config.run.seed == 5
    assert {row.name for row in table.rows} >= set(table.map_of)


def test_presets_of_a_table_contain_only_differences_and_combine_with_another_base():
    split = Split([("1", "a"), ("2", "b")], [])
    row = next(row for row in TABLE1.rows if row.name == "B")
    plan = Plan("data", "out", base="demo")
    config = config_of(row, row.preset, plan, split, 0)
    demo = read_config("demo")
    assert config.networks.guide_width == demo.networks.guide_width
    assert config.losses.classification_weight == 0
    assert config.networks.domains == 2
    assert config.schedule.guide_only_until == 0
    assert set(preset_differences("iic")) >= {"losses.guide_style_weight", "schedule.guide_only_until"}
    with pytest.raises(ConfigError, match="not based on demo"):
        preset_differences("iic", "demo")


def test_phases_keep_their_share_if_there_are_fewer_steps():
    split = Split([("1", "a"), ("2", "b")], [])
    row = next(row for row in TABLE1.rows if row.name == "G")
    config = config_of(row, "paper", Plan("data", "out", overrides=(("steps", "2000"),)), split, 0)
    assert (config.schedule.steps, config.schedule.guide_only_until) == (2000, 650)
    alone = config_of(row, "iic", Plan("data", "out", overrides=(("steps", "2000"),)), split, 0)
    assert (alone.schedule.steps, alone.schedule.guide_only_until) == (650, 650)


TIMELINE = {
    # Computed by hand: 460 steps of E alone correspond to 65,000, and 2,540 joint steps to 135,000.
    "G": {"paper": (3000, 0, 460, 470, 16)},
    "B": {"table1-b": (3763, 0, 0, 10, 16)},
    "A": {"table1-a": (1881, 0, 0, 0, 32)},
    "E": {"iic": (460, 0, 460, 460, 16), "table1-b": (3763, 0, 0, 10, 16)},
    "TUNIT 1 %": {"few-labels": (3352, 142, 248, 258, 16)},
}


@pytest.mark.parametrize("base", ["tables-32", "tables-64"])
@pytest.mark.parametrize("name", TIMELINE)
def test_rows_keep_the_papers_proportions_with_a_small_base(name, base):
    row = next(row for table in TABLES.values() for row in table.rows if row.name == name)
    split = Split([("1", "a"), ("2", "b")], [])
    for preset, expected in TIMELINE[name].items():
        config = config_of(row, preset, Plan("data", "out", base=base), split, 0)
        s = config.schedule
        found = (s.steps, s.labelled_only_until, s.guide_only_until, s.average_from)
        assert (*found, config.optimisers.batch_size) == expected


@pytest.mark.parametrize(("table", "row"), SEPARATE_ROWS, ids=lambda value: value.name)
def test_with_the_papers_base_a_row_equals_its_preset(table, row):
    split = Split([(str(k), str(k)) for k in range(10)], [])
    config = config_of(row, row.preset, Plan("data", "out"), split, 0)
    assert config.schedule == read_config(row.preset).schedule
    assert config.optimisers == read_config(row.preset).optimisers


def test_another_number_of_steps_scales_all_phases():
    split = Split([("1", "a"), ("2", "b")], [])
    row = next(row for row in TABLE1.rows if row.name == "G")
    plan = Plan("data", "out", base="tables-32", overrides=(("steps", "6_000"),))
    schedule = config_of(row, "paper", plan, split, 0).schedule
    assert (schedule.steps, schedule.guide_only_until, schedule.average_from) == (6000, 920, 940)


@pytest.fixture(scope="module")
def seen():
    """How often the feature network got each picture, by its bytes, while `done` was made."""
    return Counter()


@pytest.fixture(scope="module")
def done(pictures, seen, tmp_path_factory):
    """Configurations B, C, D, F and G, trained for a few steps each."""
    out = tmp_path_factory.mktemp("out")
    plan = smoke(Plan(pictures, out, overrides=(("threads", "1"), ("device", "cpu"))))
    forward = RandomVGG16.forward

    def noted(self, x):
        seen.update(picture.tobytes() for picture in to_bytes(x))
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomVGG16, "forward", noted)
        return plan, run_table(TABLE1, plan, only=("B", "C", "D", "F", "G"))


def to_bytes(x):
    """(N, S, S, 3) of x (N, 3, S, S) in [0, 1]."""
    return (255 * x).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def test_a_complete_experiment_has_a_result_for_every_row(done):
    _, outcomes = done
    assert [outcome["row"] for outcome in outcomes] == ["B", "C", "D", "F", "G"]
    for outcome in outcomes:
        assert outcome["pictures"] == [39, 9]
        assert 0 <= outcome["figures"]["accuracy"] <= 1
        assert outcome["figures"]["FID of all"] > 0
    assert outcomes[0]["figures"]["accuracy"] == 1


def test_features_of_the_real_pictures_are_computed_once_for_all_rows(done, seen):
    plan, outcomes = done
    folder = plan.folder(TABLE1, chosen(TABLE1, ("G",))[0][0], 0)
    real = open_packed(folder / "run/evaluation/train").images
    number = [seen[picture.tobytes()] for picture in real]
    assert len(number) == 39
    # The first two show each time whether the network is the same: for five evaluations, and the k-means of row D.
    assert number == [7, 7] + 37 * [1]
    shutil.rmtree(plan.out / "features")
    (folder / "outcome.json").unlink()
    assert run_table(TABLE1, plan, only=("G",)) == outcomes[-1:]  # the figures do not depend on what was kept


def test_accuracy_is_of_held_back_pictures_wherever_an_e_has_learnt_domains(done):
    plan, outcomes = done
    assert [o["accuracy of labels"] for o in outcomes] == [True, True, True, False, False]
    folder = plan.folder(TABLE1, chosen(TABLE1, ("F",))[0][0], 0)
    of_first = json.loads((folder / "first/evaluation/evaluation.json").read_text())
    assert of_first["pictures"] == str(folder / "held.csv")
    assert outcomes[3]["figures"]["accuracy"] == of_first["figures"]["accuracy"]["value"]


def test_labels_come_from_the_source_that_the_row_names(done):
    plan, _ = done
    labels = {}
    for name in ("B", "C", "F"):
        row = next(row for row in TABLE1.rows if row.name == name)
        labels[name] = read_labels(plan.folder(TABLE1, row, 0) / "labelled.csv")
    assert all(of == label for of, label in labels["B"].values())
    images = np.stack([_pixels(path) for path in labels["C"]])
    expected = k_means(images, 3, 0, RESTARTS).labels_
    numbers = np.array([int(label.split("-")[1]) for _, label in labels["C"].values()])
    assert clustering_accuracy(numbers, expected) == 1


def _pixels(path):
    from PIL import Image

    from tunit.data.packing.fit import fit_picture

    with Image.open(path) as picture:
        return fit_picture(picture.convert("RGB"), 32, "stretch").reshape(-1) / np.float32(255)


def test_the_sequential_run_starts_with_the_guide_of_the_first_run(done):
    plan, _ = done
    row = next(row for row in TABLE1.rows if row.name == "F")
    config = (plan.folder(TABLE1, row, 0) / "run" / "config.toml").read_text()
    assert str(plan.folder(TABLE1, row, 0) / "first") in config


def test_k_means_may_use_other_features_than_the_figures(pictures, tmp_path, monkeypatch):
    asked = []

    def network(name, **more):
        asked.append(name)
        raise DataError("enough")

    monkeypatch.setattr(label_sources, "load_feature_network", network)
    monkeypatch.setattr(driver, "check_networks", lambda *words: None)
    for own in ("", "moco.pth.tar"):
        plan = smoke(Plan(pictures, tmp_path / f"out {own}", cluster_features=own))
        run_table(TABLE1, plan, only=("D",), say=lambda text: None)
    assert asked == ["random-vgg16", "moco.pth.tar"]


def test_pictures_for_k_means_are_made_and_measured_as_the_run_asks(pictures, tmp_path, monkeypatch):
    asked = {}

    def packed(table, cache, settings):
        asked["pack"] = settings
        return SimpleNamespace(images=np.zeros((2, 32, 32, 3), np.uint8))

    def network(name, **more):
        asked["network"] = more
        raise DataError("enough")

    monkeypatch.setattr(label_sources, "pack_pictures", packed)
    monkeypatch.setattr(label_sources, "load_feature_network", network)
    given = {"fit": "crop", "background": "1 2 3", "min_side": "20", "max_pixels": "4096", "device": "cpu"}
    plan = smoke(Plan(pictures, tmp_path, overrides=tuple(given.items()), preprocessing="legacy"))
    run_table(TABLE1, plan, only=("D",), say=lambda text: None)
    settings = asked["pack"]
    assert (settings.size, settings.fit, settings.background) == (32, "crop", (1, 2, 3))
    assert (settings.min_side, settings.max_pixels) == (20, 4096)
    assert (settings.labels, settings.label_column, settings.keep_duplicates) == ("csv", "class", True)
    assert asked["network"]["preprocessing"] == "legacy"
    assert asked["network"]["device"].type == "cpu"


def test_finished_rows_are_not_run_again(done, monkeypatch):
    plan, outcomes = done
    monkeypatch.setattr(one_row, "train_to_end", lambda *words: pytest.fail("trained again"))
    assert run_table(TABLE1, plan, only=("B", "G")) == [outcomes[0], outcomes[-1]]


def test_the_table_shows_our_figures_and_the_papers_with_the_differences(done):
    plan, outcomes = done
    twice = [*outcomes, {**outcomes[-1], "seed": 1, "figures": outcomes[-1]["figures"] | {"accuracy": 0.0}}]
    markdown, page = write_outcome(TABLE1, plan, twice)
    text = markdown.read_text()
    assert "39 training and 9 held-back pictures" in text
    assert "32 px, 8 steps of 4 pictures" in text
    assert "200,000 steps" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| G |")]
    assert "±" in row
    assert "47.7" in row
    assert "0.841" in row
    (first,) = [line for line in text.splitlines() if line.startswith("| B |")]
    assert "±" not in first
    assert "200,000 steps" in page.read_text()


def test_a_failing_row_does_not_stop_the_others(pictures, tmp_path, monkeypatch):
    said = []

    def failing(table, row, plan, seed, say, split):
        if row.name == "C":
            raise DataError("broken")
        return {"row": row.name}

    monkeypatch.setattr(driver, "run_row", failing)
    found = run_table(TABLE1, Plan(pictures, tmp_path), only=("B", "C", "D"), say=said.append)
    assert [outcome["row"] for outcome in found] == ["B", "D"]
    assert said == ["C, seed 0 failed: broken"]


def test_the_command_runs_the_clustering_table(pictures, tmp_path, capsys):
    words = ["reproduce", "clustering", "--data", pictures, "--out", tmp_path, "--smoke", "--threads", "1"]
    assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "| IIC + eq. 2 |" in text
    assert "3.040" in text
    outcome = json.loads((tmp_path / "clustering-smoke" / "iic" / "seed-0" / "outcome.json").read_text())
    assert "mFID" not in outcome["figures"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tabel1"], "did you mean 'table1'"),
        (["table1", "--only", "Z"], "table1 has no row 'Z'"),
        (["table1", "--seeds", "0"], "--seeds is 0"),
        (["table1", "--smoke", "--seed", "7"], "use --seeds N"),
        (
            ["table1", "--preprocessing", "legacy"],
            "--preprocessing legacy has no effect with --features random-vgg16",
        ),
        (["table1", "--smoke", "--layout", "food-101"], "--layout food-101 cannot be read here"),
        (["table1", "--smoke", "--split", "test"], "--split test is for published data sets"),
        (
            ["table1", "--smoke", "--held-out", "9"],
            "leave it out, or give the held-back pictures as --held-back",
        ),
        (["table1", "--smoke", "--classes", "A,B"], "leave it out, or choose classes with --between A,B"),
    ],
)
def test_errors_are_one_sentence(pictures, tmp_path, capsys, words, message):
    assert main(["reproduce", *words, "--data", str(pictures), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('layout = "food-101"', "--layout food-101 (set in --base {base}) cannot be read here"),
        ('labels = "folders"', "--labels folders (set in --base {base}) cannot be chosen here"),
        ("held_out = 9", "--held-out 9 (set in --base {base}) is for published data sets"),
    ],
)
def test_a_base_file_may_not_choose_pictures(pictures, tmp_path, capsys, setting, message):
    base = tmp_path / "base.toml"
    base.write_text(f'base = "tables-32"\n[data]\n{setting}\n')
    words = [
        "reproduce",
        "table1",
        "--base",
        str(base),
        "--data",
        str(pictures),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    assert message.format(base=base) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["TUNIT", "SEMIT", "FUNIT"])
def test_the_first_word_of_a_row_selects_all_rows_of_that_method(name):
    rows, unknown = chosen(TABLE3, (name,))
    assert [row.name for row in rows] == [f"{name} {ratio} %" for ratio in (1, 2, 4, 8, 20, 40, 60, 80)]
    assert not unknown


def test_rows_are_selected_by_name_in_the_tables_order():
    rows, _ = chosen(TABLE3, ("TUNIT 8 %", "FUNIT1%"))
    assert [row.name for row in rows] == ["FUNIT 1 %", "TUNIT 8 %"]
    # a complete row name does not select other rows
    assert [row.name for row in chosen(CLUSTERING, ("IIC",))[0]] == ["IIC"]
    assert len(chosen(TABLE2, ())[0]) == len(TABLE2.rows)
    assert chosen(TABLE3, ("TUNIT", "TUNIT 3 %")) == ([], "TUNIT 3 %")


def test_names_of_rows_are_unique_also_as_folder_names():
    for table in TABLES.values():
        plan = Plan(Path("data"), Path("out"))
        folders = {plan.folder(table, row, 0) for row in table.rows}
        assert len(folders) == len(table.rows)


PRINTED = {  # figures of the paper's tables 2 and 3, copied a second time
    ("K = 20", "AnimalFaces-10", "mean coverage"): 0.778,
    ("K = 50", "Food-10", "mean density"): 1.067,
    ("K = 500", "AnimalFaces-10", "mFID"): 67.2,
    ("K = 1000", "Food-10", "mFID"): 60.7,
    ("FUNIT 1 %", "Food-10", "mFID"): 195.7,
    ("FUNIT 80 %", "Food-101", "mFID"): 67.4,
    ("SEMIT 8 %", "AnimalFaces-149", "mFID"): 120.3,
    ("TUNIT 40 %", "AnimalFaces-149", "mFID"): 79.9,
    ("TUNIT 2 %", "Food-101", "mFID"): 74.4,
}


def test_the_papers_figures_are_in_the_right_cells():
    rows = {row.name: row for table in (TABLE2, TABLE3) for row in table.rows}
    assert {key: rows[key[0]].paper[key[1]][key[2]] for key in PRINTED} == PRINTED


def test_funit_learns_only_from_the_labelled_pictures_and_reduces_the_batch(pictures, tmp_path):
    plan = smoke(Plan(pictures, tmp_path, overrides=(("threads", "1"), ("device", "cpu"))))
    (outcome,) = run_table(TABLE3, plan, only=("FUNIT 4 %",))
    row = chosen(TABLE3, ("FUNIT 4 %",))[0][0]
    folder = plan.folder(TABLE3, row, 0)
    assert sorted(read_labels(folder / "labelled.csv").values()) == [
        (n, n) for n in ("apples", "pears", "plums")
    ]
    assert outcome["settings"]["batch size"] == 3
    assert outcome["pictures"] == [39, 9]  # translations are compared with all training pictures
    assert "accuracy" not in outcome["figures"]
    assert outcome["figures"]["mFID"] > 0


def test_tunit_with_few_labels_uses_the_unlabelled_pictures_too(pictures, tmp_path):
    plan = smoke(Plan(pictures, tmp_path, overrides=(("threads", "1"), ("device", "cpu")), base="tables-32"))
    (outcome,) = run_table(TABLE3, plan, only=("TUNIT 20 %",))
    folder = plan.folder(TABLE3, chosen(TABLE3, ("TUNIT 20 %",))[0][0], 0)
    labels = [label for _, label in read_labels(folder / "labelled.csv").values()]
    assert (len(labels), labels.count("")) == (39, 30)
    config = read_config(str(folder / "run" / "config.toml"))
    assert config.data.labelled_ratio == 9 / 39
    assert config.networks.candidate_heads == 0
    assert 0 <= outcome["figures"]["accuracy"] <= 1


def test_a_row_whose_labels_are_clusters_finds_the_image_size_from_the_pictures(pictures, tmp_path):
    """With the preset `default` the size is 0 until the pictures are known, and clusters need squares before that."""
    given = (("threads", "1"), ("device", "cpu"), ("image_size", "0"))
    plan = smoke(Plan(pictures, tmp_path, overrides=given, base="tables-32"))
    (outcome,) = run_table(TABLE1, plan, only=("C",))
    assert outcome["settings"]["image size"] == 32
