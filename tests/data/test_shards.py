"""Data sets packed as shards: plain tars with the same pictures in every kind of place, and the same training."""

import errno
import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from stopping import stopping
from tiny_run import tiny_config, write_two_classes
from tunit.cli import main
from tunit.data.batching import batches
from tunit.data.finding import places
from tunit.data.finding.places import place_of
from tunit.data.finding.sharded_sets import is_sharded, open_shards
from tunit.data.packing import pack, sharded, shards, unfinished_shards
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import open_packed
from tunit.data.packing.search import Search
from tunit.data.packing.shards import copy_index, pack_shards
from tunit.errors import ConfigError, DataError, RunError
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run

fsspec = pytest.importorskip("fsspec", reason='needs pip install "tunit[cloud]"')
SETTINGS = PackSettings(size=32, labels="folders")
EACH = 7
PICTURES = 26


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_two_classes(tmp_path_factory.mktemp("source"), 13)


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    return pack_pictures(source, tmp_path_factory.mktemp("pack") / "c", SETTINGS, workers=1)


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def where(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3") + f"/{tmp_path.name}"
    return {
        "folder": tmp_path / "set",
        "file": f"file://{tmp_path}/set",
        "memory": f"memory://{tmp_path.name}",
    }[request.param]


@pytest.fixture
def memory(tmp_path):
    return f"memory://{tmp_path.name}"


def shards_of(source, where, **named):
    return pack_shards(Search(source, SETTINGS), where, EACH, workers=1, **named)


def content(where):
    place = place_of(where)
    return {name: place.read(name) for name in place.names() if name != ".tunit-cache"}


def test_every_place_has_the_pictures_of_the_pack(source, packed, where):
    made = shards_of(source, where)
    assert not made.reused
    assert is_sharded(where)
    assert sorted(content(where)) == ["index.json", *(f"shard-00000{n}.tar" for n in range(4))]
    for field in ("names", "classes", "left_out", "hashes", "notes"):
        assert getattr(made, field) == getattr(packed, field)
    assert made.labels.tolist() == packed.labels.tolist()
    images = made.images
    assert (images.shape, images.nbytes, len(images)) == (packed.images.shape, packed.images.nbytes, 24)
    assert np.array_equal(np.array(images), packed.images)
    for rows in (5, -1, slice(3, 20, 4), np.array([9, 1, 9, 23]), [0], slice(None, None, 100)):
        assert np.array_equal(images[rows], packed.images[rows])
        assert images[rows].shape == packed.images[rows].shape
    with pytest.raises(IndexError):
        images[24]
    assert shards_of(source, where).reused


def test_a_shard_is_a_tar_of_arrays(source, packed, tmp_path):
    shards_of(source, tmp_path / "set")
    found = []
    for shard in sorted((tmp_path / "set").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                found.append(np.load(io.BytesIO(tar.extractfile(member).read())))
                assert member.name == f"{len(found) - 1:09d}.npy"
    # Folders are read in the order of names, so the arrays have the order of the pack.
    assert np.array_equal(np.stack(found), packed.images)


@pytest.mark.parametrize("after", [1, 8, 20, 25])
def test_writing_continues_after_the_last_complete_shard(source, tmp_path, monkeypatch, memory, after):
    shards_of(source, tmp_path / "whole")
    shards = unfinished_shards.UnfinishedShards
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "add", stopping(shards.add, after))
        shards_of(source, memory)
    fitted, decoded = pack.fitted, []
    monkeypatch.setattr(pack, "fitted", lambda *task: decoded.append(task) or fitted(*task))
    shards_of(source, memory)
    assert PICTURES - after <= len(decoded) <= PICTURES - after + EACH + 2
    assert content(memory) == content(tmp_path / "whole")


def test_an_incomplete_part_or_one_of_another_set_is_written_again(source, tmp_path, memory):
    shards_of(source, tmp_path / "whole")
    place = place_of(memory)
    for number, part in enumerate([b'{"about": {}, "begin": 0, "outcomes": []}', b"{"]):
        place.write(f"shard-00000{number}.tar", b"old")
        place.write(f"shard-00000{number}.json", part)
    place.write("shard-000009.tar", b"old")
    shards_of(source, memory)
    assert content(memory) == content(tmp_path / "whole")


def reading(monkeypatch, images):
    """How many pictures each later call reads from the store."""
    spans, asked = images._place.spans, []
    monkeypatch.setattr(images._place, "spans", lambda wanted: asked.append(len(wanted)) or spans(wanted))
    return asked


@pytest.mark.parametrize(("room", "again"), [(0, 24), (10, 14), (24, 0)])
def test_pictures_are_cached_up_to_the_limit(source, packed, memory, monkeypatch, room, again):
    shards_of(source, memory)
    index = open_shards(memory)
    images = sharded.ShardedImages(place_of(memory), index, index.shards, room * 32 * 32 * 3 + 5)
    asked = reading(monkeypatch, images)
    rows = np.random.default_rng(0).permutation(24)
    assert np.array_equal(images[rows], packed.images[rows])
    assert sum(asked) == 24
    assert np.array_equal(images[rows[::-1]], packed.images[rows[::-1]])
    assert sum(asked) == 24 + again


def test_the_cache_leaves_space_on_the_disk_that_others_fill_meanwhile(source, memory, monkeypatch):
    images, free = shards_of(source, memory).images, [1 << 40]
    monkeypatch.setattr(sharded, "free_bytes", lambda folder: free[0])
    images[:5]
    assert images._cache._next == 5
    free[0] = 1 << 30
    assert np.array_equal(images[:], images[:])
    assert images._cache._next == 5


def test_shards_are_read_and_cached_without_pread(source, packed, tmp_path, memory, monkeypatch):
    """As on Windows."""
    for name in ("pread", "pwrite"):
        monkeypatch.delattr(os, name)
    for where in (tmp_path / "set", memory):
        images = shards_of(source, where).images
        for _ in range(2):
            for rows in ([7, 2, 7], [20, 2], slice(None)):
                assert np.array_equal(images[rows], packed.images[rows])
    assert images._cache._next == len(images)  # all are in the file


def test_the_cache_limit_is_shared_by_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setenv(sharded.CACHE_GB, "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert sharded.keep_limit() == 1_500_000_000
    monkeypatch.setenv(sharded.CACHE_GB, "many")
    with pytest.raises(ConfigError, match="give gigabytes"):
        sharded.keep_limit()


@pytest.mark.usefixtures("one_thread")
def test_training_from_a_store_equals_training_from_a_pack(source, s3, tmp_path, monkeypatch):
    """The run is stopped in the middle and resumed; the cache holds only some pictures, and nothing is read ahead."""
    config = tiny_config(labels="none")
    start_run(source, tmp_path / "local", config, quiet=True)
    url = f"{s3}/training"
    pack_shards(Search(source, PackSettings(size=32, labels="folders")), url, EACH, workers=1)
    monkeypatch.setenv(sharded.CACHE_GB, str(9 * 32 * 32 * 3 / 1e9))
    monkeypatch.setattr(batches, "room_for_pictures", lambda *_: 0)
    start_run(url, tmp_path / "far", config.with_overrides({"steps": 6}), quiet=True)
    assert sorted(p.name for p in (tmp_path / "far" / "data").iterdir()) == [".tunit-cache", "index.json"]
    resume_run(tmp_path / "far", overrides={"steps": "12"}, quiet=True)
    ours, theirs = (
        read_tensors(checkpoints(tmp_path / run / "checkpoints")[-1])[0] for run in ("far", "local")
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_commands_accept_shards(source, tmp_path, memory, capsys):
    words = ["prepare", str(source), "--out", memory, "--image-size", "32"]
    assert main(words) == 2
    assert "give --shards" in capsys.readouterr().err
    assert main([*words, "--shards", "9", "--workers", "1"]) == 0
    assert f"24 pictures at 32 x 32, packed: {memory}" in capsys.readouterr().out
    assert sorted(content(memory)) == ["index.json", *(f"shard-00000{n}.tar" for n in range(3))]
    assert main(["prepare", str(source), "--shards", "0"]) == 2
    assert "--shards is 0" in capsys.readouterr().err
    train = ["train", memory, "--out", str(tmp_path / "run"), "--preset", "small"]
    assert main([*train, "--image-size", "64"]) == 2
    said = capsys.readouterr().err
    assert "was prepared with --image-size 32, and --image-size is 64 now" in said
    assert main([*train, "--labels", "folders"]) == 2
    assert "prepared with --labels none" in capsys.readouterr().err


def test_damaged_or_missing_shards_are_one_sentence(source, tmp_path, memory):
    shards_of(source, memory)
    store = fsspec.filesystem("memory")
    name = memory.removeprefix("memory:/") + "/shard-000001.tar"
    data = bytearray(store.cat_file(name))
    data[1000:1010] = bytes(10)
    store.pipe_file(name, bytes(data))
    packed = copy_index(open_shards(memory), tmp_path / "run" / "data", labels=True)
    packed.images[0]
    with pytest.raises(DataError, match="does not hold 'a/008\\.png'"):
        packed.images[7]
    store.rm_file(name)
    with pytest.raises(DataError, match="cannot be used"):
        open_packed(tmp_path / "run" / "data").images[7]
    with pytest.raises(DataError, match="holds no index\\.json of shards"):
        open_shards(memory + "/nowhere")
    with pytest.raises(ConfigError, match=r"tunit\[cloud\]"):
        place_of("nosuchstore://a/b")


def test_a_full_disk_is_one_sentence_with_the_folder_where_shards_are_made(
    source, tmp_path, memory, monkeypatch
):
    def full(number, square):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unfinished_shards, "member", full)
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    for where, folder in ((tmp_path / "out", tmp_path / "out"), (memory, tmp_path / "cache" / "shards")):
        with pytest.raises(DataError, match=r"cannot be written to \(No space left on device\)") as caught:
            shards_of(source, where)
        assert str(caught.value).startswith(f"{folder} cannot")


def test_an_index_that_does_not_fit_on_the_disk_is_one_sentence_with_the_file(source, tmp_path, monkeypatch):
    def full(path, index):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shards_of(source, tmp_path / "shards")
    monkeypatch.setattr(shards, "write_index", full)
    with pytest.raises(RunError, match=r"data/index\.json cannot be written \(No space left on device\)"):
        copy_index(open_shards(tmp_path / "shards"), tmp_path / "run" / "data", labels=True)


def test_an_index_that_tunit_did_not_write_is_kept(source, memory):
    place_of(memory).write("index.json", json.dumps({"format": "theirs"}).encode())
    with pytest.raises(DataError, match="not written by tunit"):
        shards_of(source, memory)
    assert content(memory) == {"index.json": b'{"format": "theirs"}'}


def test_identical_pictures_may_all_be_kept(source, memory):
    settings = PackSettings(size=32, keep_duplicates=True)
    made = pack_shards(Search(source, settings), memory, EACH, workers=1)
    assert len(made.names) == 25
    assert np.array_equal(made.images[made.names.index("b/003.png")], made.images[2])
    assert Image.fromarray(made.images[0]).size == (32, 32)


def test_shards_that_were_moved_are_found_through_a_link(source, tmp_path):
    """The remedy that the message names works."""
    made = shards_of(source, tmp_path / "old")
    copy_index(open_shards(tmp_path / "old"), tmp_path / "run" / "data", labels=True)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(DataError, match=r"moved, leave a link to it in the old place") as refused:
        open_packed(tmp_path / "run" / "data").images[7]
    assert "keys" not in str(refused.value)  # of a store
    (tmp_path / "old").symlink_to(tmp_path / "new")
    assert np.array_equal(open_packed(tmp_path / "run" / "data").images[7], made.images[7])


@pytest.mark.parametrize("name", ["shard-000000.tar", "shard-000007.json", "pictures.npy"])
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_files_that_tunit_did_not_write_are_kept(source, tmp_path, memory, name, kind):
    """`shard-000000.tar` is also the usual name of WebDataset's own writer."""
    (tmp_path / "set").mkdir()
    place = place_of(where := memory if kind == "memory" else tmp_path / "set")
    place.write(name, b'{"of": "another program"}')
    with pytest.raises(DataError, match=f"holds {name}, which tunit did not write: give another --out"):
        shards_of(source, where)
    assert {name: place.read(name) for name in place.names()} == {name: b'{"of": "another program"}'}


@pytest.mark.parametrize("size", [16, 32])
def test_a_finished_set_of_other_pictures_or_settings_is_kept(source, tmp_path, memory, size):
    (tmp_path / "other").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "other" / "x.png")
    shards_of(source, memory)
    before = content(memory)
    other = Search(source if size == 16 else tmp_path / "other", PackSettings(size=size, labels="folders"))
    with pytest.raises(
        DataError, match="other pictures or settings, which runs may read there: give another --out"
    ):
        pack_shards(other, memory, EACH, workers=1)
    assert content(memory) == before


def test_damaged_shards_are_prepared_again(source, tmp_path):
    whole, shard = tmp_path / "set", tmp_path / "set" / "shard-000001.tar"
    shards_of(source, whole)
    before, data = content(whole), bytearray(shard.read_bytes())
    for damage in (lambda: shard.unlink(), lambda: shard.write_bytes(data[:1000] + bytes(9) + data[1009:])):
        damage()
        assert not shards_of(source, whole).reused
        assert content(whole) == before
    assert shards_of(source, whole).reused


def test_a_shard_that_a_store_lacks_is_written_again(source, memory):
    shards_of(source, memory)
    before = content(memory)
    place_of(memory).remove("shard-000001.tar")
    assert not shards_of(source, memory).reused
    assert content(memory) == before


def of_another_version(data):
    return json.dumps(json.loads(data) | {"version": 7}).encode()


@pytest.mark.parametrize("change", [of_another_version, lambda data: data[: len(data) // 2]])
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_set_without_a_usable_index_is_replaced_only_by_one_with_pictures(
    source, tmp_path, memory, kind, change
):
    """The index is of another version, or damaged; each picture of the new source turns out to be damaged."""
    where, other = memory if kind == "memory" else tmp_path / "set", tmp_path / "other"
    shards_of(source, where)
    finished, place = content(where), place_of(where)
    place.write("index.json", change(finished["index.json"]))
    before = content(where)
    other.mkdir()
    for number in range(3):
        (other / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(DataError, match="holds no picture that can be used"):
        shards_of(other, where)
    assert content(where) == before
    with pytest.raises(DataError, match="repair or remove them, or leave out --strict"):
        shards_of(other, where, strict=True)
    assert content(where) == before
    shards_of(source, where)
    assert content(where) == finished


@pytest.mark.parametrize("method", ["take", "remove"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_shards_of_a_job_killed_at_any_moment_are_known_as_ours(source, memory, monkeypatch, method, after):
    """A store has no marker that tunit made the place."""
    shards_of(source, memory)
    before = content(memory)
    place_of(memory).remove("shard-000001.tar")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(places.UrlPlace, method, stopping(getattr(places.UrlPlace, method), after))
        shards_of(source, memory)
    shards_of(source, memory)
    assert content(memory) == before
