"""Shards as the pictures of any command: the same pixels, names and classes as the pictures packed in them."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from tiny_model import save_tiny
from tiny_run import flags, write_two_classes
from tunit.cli import main
from tunit.data.finding.find import find_pictures
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards
from tunit.errors import DataError
from tunit.evaluation.labelled import pack_held, square_settings
from tunit.translation.translator import Translator

SETTINGS = PackSettings(size=32, labels="folders")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_two_classes(tmp_path_factory.mktemp("source"), 9)


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    return pack_pictures(source, tmp_path_factory.mktemp("pack") / "c", SETTINGS, workers=1)


def shards_of(source, where, settings=SETTINGS):
    pack_shards(Search(source, settings), where, 5, workers=1)
    return where


@pytest.fixture(scope="module")
def shards(source, tmp_path_factory):
    return shards_of(source, tmp_path_factory.mktemp("shards") / "set")


@pytest.fixture(scope="module")
def table(source):
    """A CSV table next to the pictures, in which every third picture has no label."""
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.png"))
    rows = [f"{name},{('cat', 'dog', '')[i % 3]}\n" for i, name in enumerate(names)]
    path = source / "labels.csv"
    path.write_text("picture,label\n" + "".join(rows))
    return path


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_each_picture_is_the_square_that_was_packed(source, packed, tmp_path, place):
    where = tmp_path / "set"
    if place == "memory":
        pytest.importorskip("fsspec", reason='needs pip install "tunit[cloud]"')
        where = f"memory://{tmp_path.name}"
    found = find_pictures(shards_of(source, where), labels="folders")
    assert [picture.name for picture in found.pictures] == packed.names
    assert [picture.label for picture in found.pictures] == [packed.classes[k] for k in packed.labels]
    squares = [np.asarray(Image.open(io.BytesIO(picture.read()))) for picture in found.pictures]
    assert np.array_equal(np.stack(squares), packed.images)


def test_a_pack_of_shards_is_the_pack_of_their_pictures(shards, packed, tmp_path):
    again = pack_pictures(shards, tmp_path / "again", SETTINGS, workers=1)
    assert (again.names, again.classes, again.hashes) == (packed.names, packed.classes, packed.hashes)
    assert again.labels.tolist() == packed.labels.tolist()
    assert pack_pictures(shards, tmp_path / "again", SETTINGS, workers=1).reused


def test_prepare_without_shards_does_not_replace_shards_that_runs_may_read(source, tmp_path, capsys):
    words = ["prepare", str(source), "--image-size", "32", "--workers", "1", "--out", str(tmp_path / "set")]
    assert main([*words, "--shards"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "set").iterdir() if path.is_file()}
    assert main(words) == 2
    assert "holds shards, which runs may read there" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in (tmp_path / "set").iterdir() if path.is_file()} == before
    assert main([*words, "--shards"]) == 0


def test_labels_of_a_table_stay_in_the_shards(table, tmp_path):
    where = shards_of(table, tmp_path / "set", PackSettings(size=32, labels="csv"))
    with table.open() as file:
        expected = {row["picture"]: row["label"] or None for row in csv.DictReader(file)}
    found = find_pictures(where, labels="csv").pictures
    assert {picture.name: picture.label for picture in found}.items() <= expected.items()
    assert {picture.label for picture in found} == {"cat", "dog", None}
    assert {picture.label for picture in find_pictures(where).pictures} == {None}
    held = pack_held(where, tmp_path / "held", square_settings(32, "stretch", (255, 255, 255)))
    assert held.classes == ["cat", "dog"]


def test_a_column_of_labels_that_was_not_packed_is_refused(table, tmp_path):
    where = shards_of(table, tmp_path / "set", PackSettings(size=32, labels="csv"))
    with pytest.raises(
        DataError, match="was prepared with --label-column label, and --label-column is kind now"
    ):
        find_pictures(where, labels="csv", label_column="kind")
    squares = square_settings(32, "stretch", (255, 255, 255))
    with pytest.raises(DataError, match="--label-column is kind now"):
        pack_held(where, tmp_path / "held", squares, label_column="kind")


def test_labels_that_were_not_packed_are_refused(shards):
    with pytest.raises(DataError, match="was prepared with --labels folders, and --labels is csv now"):
        find_pictures(shards, labels="csv")


def test_what_train_prints_works_on_shards(shards, source, packed, tmp_path, capsys):
    """The domains are those of the pictures themselves, at whose size the shards are."""
    run = tmp_path / "run"
    few = flags(steps=2, guide_only_until=1, average_from=1, sample_every=2, checkpoint_every=2)
    held = ("--evaluate-every", "2", "--held-back", str(shards))
    assert main(["train", str(shards), "--out", str(run), "--preset", "paper", *few, *held]) == 0
    assert f"next: tunit domains {run} {shards}" in " ".join(capsys.readouterr().out.split())
    rows = []
    for pictures in (shards, source):
        assert (
            main(["domains", str(run), str(pictures), "--out", str(tmp_path / "sorted"), "--overwrite"]) == 0
        )
        with (tmp_path / "sorted" / "domains.csv").open() as file:
            rows.append({row["picture"]: row for row in csv.DictReader(file)})
    assert sorted(rows[0]) == packed.names
    assert rows[0].items() <= rows[1].items()
    assert main(["evaluate", str(run), str(shards), "--sources", "2"]) == 0
    assert main(["translate", str(run), str(shards), "--domain", "0", "--out", str(tmp_path / "drawn")]) == 0
    assert len(list((tmp_path / "drawn").glob("*/*.png"))) == len(packed.names)


def test_a_translator_reads_shards(shards, packed, tmp_path):
    save_tiny(tmp_path)
    translator = Translator.load(tmp_path, device="cpu")
    drawn = list(translator.translate(shards, domain=0))
    assert len(drawn) == len(packed.names)
    alone = translator.translate(packed.images[7], domain=0)
    assert np.array_equal(np.asarray(drawn[7]), np.asarray(alone))


@pytest.mark.parametrize(
    "content", [b"garbage", b"", b'{"format": "tunit pictures", "ver', b"\xff\xfe", None]
)
def test_shards_with_a_damaged_index_are_said_to_be_so(source, tmp_path, content, capsys):
    index = shards_of(source, tmp_path / "set") / "index.json"
    if content is None:
        index.unlink()
    else:
        index.write_bytes(content)
    why = "holds shards, but index.json is missing or damaged: prepare the pictures again"
    with pytest.raises(DataError, match=why):
        find_pictures(tmp_path / "set")
    assert main(["train", str(tmp_path / "set"), "--out", str(tmp_path / "run"), *flags()]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_an_index_of_another_program_is_not_that_of_shards(source, tmp_path):
    """Tar files of that name may be somebody else's; those with pictures are read as archives."""
    (shards_of(source, tmp_path / "set") / "index.json").write_text(json.dumps({"format": "theirs"}))
    with pytest.raises(DataError, match="holds no picture that can be used"):
        find_pictures(tmp_path / "set")


def test_a_damaged_picture_of_shards_is_left_out(source, tmp_path):
    shard = shards_of(source, tmp_path / "set") / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(bytes(data))
    kept = pack_pictures(tmp_path / "set", tmp_path / "pack", SETTINGS, workers=1)
    assert [item.detail for item in kept.left_out] == [
        "shard-000001.tar does not hold it at byte 640: remove it and prepare them again"
    ]
