"""Damage to the record of an unfinished job: the next job does the lost part again, and the result is the same."""

import random
import shutil

import pytest

from soak.mutations import changed, swapped
from stopping import stopping
from tiny_run import write_pictures
from tunit.data.finding.find import find_pictures
from tunit.data.packing import packed as packs
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards
from tunit.data.packing.unfinished_shards import UnfinishedShards
from tunit.files.work_journal import WorkJournal
from tunit.translation.unfinished_results import UnfinishedWork

SMALL = PackSettings(size=8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six pictures; the second cannot be read."""
    folder = write_pictures(tmp_path_factory.mktemp("pictures") / "pictures", 6, side=20)
    (folder / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def with_a_damaged_line(data, rng):
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        flipped = bytearray(lines[at])
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(7)
        lines[at] = bytes(flipped)
    else:
        lines[at] = changed(lines[at], rng)
    return b"".join(lines)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_pack_is_the_same_after_any_damage_to_its_journal(pictures, tmp_path, monkeypatch):
    pack_pictures(pictures, tmp_path / "whole", SMALL, workers=1)
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packs, "write_picture_bytes", stopping(packs.write_picture_bytes, 4))
        pack_pictures(pictures, stopped, SMALL, workers=1, resume=True)
    journal = (stopped / "pictures.journal").read_bytes()
    assert journal.count(b"\n") == 6
    for seed in range(12):
        cache = tmp_path / "again"
        shutil.copytree(stopped, cache)
        (cache / "pictures.journal").write_bytes(with_a_damaged_line(journal, random.Random(seed)))
        pack_pictures(pictures, cache, SMALL, workers=1, resume=True)
        assert content(cache) == content(tmp_path / "whole"), seed
        shutil.rmtree(cache)


def test_shards_are_the_same_after_any_damage_to_their_part_files(pictures, tmp_path, monkeypatch):
    search, stopped = Search(pictures, SMALL), tmp_path / "stopped"
    pack_shards(search, tmp_path / "whole", 2, workers=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(UnfinishedShards, "add", stopping(UnfinishedShards.add, 5))
        pack_shards(search, stopped, 2, workers=1)
    parts = sorted(path.name for path in stopped.glob("shard-*.json"))
    assert len(parts) == 2
    for seed in range(15):
        again, rng = tmp_path / "again", random.Random(seed)
        shutil.copytree(stopped, again)
        part = again / rng.choice(parts)
        data = bytearray(part.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(7)
        part.write_bytes(data if seed % 3 else swapped(part.read_bytes(), rng))
        pack_shards(search, again, 2, workers=1)
        assert content(again) == content(tmp_path / "whole"), seed
        shutil.rmtree(again)


def test_translated_pictures_of_a_damaged_record_are_translated_again(pictures, tmp_path):
    order = find_pictures(pictures).pictures

    def is_whole(work, source, result):
        return result == [f"digest of {source.name}"]

    def work():
        return UnfinishedWork(tmp_path / "out", ["translate"], order, 2, is_whole)

    with pytest.raises(KeyboardInterrupt), work() as begun:
        for source in order[:5]:
            begun.note(source, [f"digest of {source.name}"])
        raise KeyboardInterrupt
    assert work().done == 4
    (record,) = (tmp_path / "out").glob(".tunit-unfinished.*/journal")
    whole = record.read_bytes()
    less = 0
    for seed in range(80):
        record.parent.mkdir(parents=True, exist_ok=True)  # a record without results was removed
        record.write_bytes(with_a_damaged_line(whole, random.Random(seed)))
        again = work()
        assert again.done in (0, 2, 4), seed
        assert all(found.left_out is None for _, found in again.finished_sources()), seed
        less += again.done < 4
        with pytest.raises(KeyboardInterrupt), again:
            raise KeyboardInterrupt
    assert less > 20


def test_any_changed_byte_of_a_journal_is_noticed(tmp_path):
    steps = [["a.png", "stamp", ["d1"]], "0a1b", {"x": 1}, ["too small", "12 x 12"]]
    journal = WorkJournal(tmp_path / "journal", {"tunit": "1"})
    journal.begin()
    for step in steps:
        journal.add(step)
    journal.close()
    whole = (tmp_path / "journal").read_bytes()
    for at in range(len(whole)):
        for bit in (0, 5):
            changed_byte = bytes([whole[at] ^ 1 << bit])
            (tmp_path / "journal").write_bytes(whole[:at] + changed_byte + whole[at + 1 :])
            found = list(WorkJournal(tmp_path / "journal", {"tunit": "1"}).steps())
            line = whole[:at].count(b"\n")
            assert found == steps[: max(0, line - 1)], (at, bit)


def test_a_journal_of_version_0_1_is_read(tmp_path):
    (tmp_path / "journal").write_bytes(b'{"tunit": "1"}\n"0a"\n["too small", "12 x 12"]\n"cut')
    journal = WorkJournal(tmp_path / "journal", {"tunit": "1"})
    assert list(journal.steps()) == ["0a", ["too small", "12 x 12"]]
    journal.begin(1)
    journal.add("0b")
    journal.close()
    assert list(WorkJournal(tmp_path / "journal", {"tunit": "1"}).steps()) == ["0a", "0b"]
