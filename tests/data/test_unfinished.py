"""Packing that was stopped at any point continues there and produces the same bytes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stopping import stopping
from tunit.cli import main
from tunit.data.packing import pack, unfinished_pack
from tunit.data.packing import packed as packs
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.errors import DataError

SMALL = PackSettings(size=8)
PICTURES = 20


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pictures; two cannot be read and one is a copy."""
    root = tmp_path_factory.mktemp("source")
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.png")
    (root / "03.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (root / "11.png").write_bytes(b"")
    (root / "07.png").write_bytes((root / "02.png").read_bytes())
    return root


def content(cache):
    return {path.name: path.read_bytes() for path in cache.iterdir()}


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    cache = tmp_path_factory.mktemp("whole") / "c"
    packed = pack_pictures(source, cache, SMALL, workers=1)
    assert [item.name for item in packed.left_out] == ["03.png", "07.png", "11.png"]
    return content(cache)


def interrupted(monkeypatch, source, cache, where, name, after):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, name, stopping(getattr(where, name), after))
        pack_pictures(source, cache, SMALL, workers=1, resume=True)


def resumed(monkeypatch, source, cache):
    """Pack again. Returns how many pictures had to be decoded."""
    decoded = []
    with monkeypatch.context() as patch:
        fitted = pack.fitted
        patch.setattr(pack, "fitted", lambda *task: decoded.append(task) or fitted(*task))
        pack_pictures(source, cache, SMALL, workers=1, resume=True)
    return len(decoded)


@pytest.mark.parametrize("after", [1, 10, 19])
def test_packing_continues_after_the_last_picture(tmp_path, monkeypatch, source, whole, after):
    interrupted(monkeypatch, source, tmp_path / "c", unfinished_pack.UnfinishedPack, "add", after)
    with pytest.raises(DataError):
        packs.open_packed(tmp_path / "c")
    found = len(os.listdir(source)) - after  # noqa: PTH208
    assert resumed(monkeypatch, source, tmp_path / "c") == found
    assert content(tmp_path / "c") == whole


def flock_of_nfs(file, operation):
    """Linux's NFS: "to place an exclusive lock, the file must be opened for writing" (flock(2), NFS details)."""
    exclusive = operation & fcntl.LOCK_EX
    if exclusive and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_a_pack_on_nfs_is_locked(tmp_path, monkeypatch, source, whole):
    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    packs.claim(tmp_path / "c")
    with packs.locked(tmp_path / "c") as alone:
        assert alone
    interrupted(monkeypatch, source, tmp_path / "c", unfinished_pack.UnfinishedPack, "add", 10)
    assert resumed(monkeypatch, source, tmp_path / "c") == PICTURES - 10
    assert content(tmp_path / "c") == whole


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, source, whole, capsys):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert resumed(monkeypatch, source, tmp_path / "c") == PICTURES
    assert "cannot be locked on this file system" in capsys.readouterr().err
    assert content(tmp_path / "c") == whole


@pytest.mark.parametrize("moved", [0, 1, 7])
def test_stopped_while_records_are_moved_together(tmp_path, monkeypatch, source, whole, moved):
    interrupted(monkeypatch, source, tmp_path / "c", packs, "read_picture_bytes", moved)
    assert resumed(monkeypatch, source, tmp_path / "c") == 0
    assert content(tmp_path / "c") == whole


@pytest.mark.parametrize("renamed", [0, 1])
def test_stopped_between_the_last_steps(tmp_path, monkeypatch, source, whole, renamed):
    interrupted(monkeypatch, source, tmp_path / "c", Path, "replace", renamed)
    assert resumed(monkeypatch, source, tmp_path / "c") == 0
    assert content(tmp_path / "c") == whole


def test_stopped_before_the_journal_is_removed(tmp_path, monkeypatch, source, whole):
    interrupted(monkeypatch, source, tmp_path / "c", unfinished_pack.UnfinishedPack, "discard", 1)
    assert (tmp_path / "c" / unfinished_pack.JOURNAL).exists()
    assert resumed(monkeypatch, source, tmp_path / "c") == 0
    assert content(tmp_path / "c") == whole


def test_nothing_is_left_of_a_stopped_pack_with_other_settings(tmp_path, monkeypatch, source, whole):
    resumed(monkeypatch, source, tmp_path / "c")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packs, "write_picture_bytes", stopping(packs.write_picture_bytes, 3))
        pack_pictures(source, tmp_path / "c", PackSettings(size=16), workers=1, resume=True)
    assert (tmp_path / "c" / unfinished_pack.UNFINISHED).exists()
    assert resumed(monkeypatch, source, tmp_path / "c") == 0
    assert content(tmp_path / "c") == whole


def tear(journal, pixels):
    journal.write_bytes(journal.read_bytes()[:-7])


def add_nonsense(journal, pixels):
    journal.write_bytes(journal.read_bytes() + b'{"a": 1}\n\xff')


def lose_the_last(journal, pixels):  # as a power failure may
    data = bytearray(pixels.read_bytes())
    data[128 + 8 * packs.bytes_per_picture(8) :] = bytes(len(data) - 128 - 8 * packs.bytes_per_picture(8))
    pixels.write_bytes(data)


def lose_all(journal, pixels):
    pixels.unlink()


@pytest.mark.parametrize(
    ("damage", "again"), [(tear, 1), (add_nonsense, 0), (lose_the_last, 2), (lose_all, 10)]
)
def test_data_that_the_disk_has_lost_are_packed_again(tmp_path, monkeypatch, source, whole, damage, again):
    cache = tmp_path / "c"
    interrupted(monkeypatch, source, cache, unfinished_pack.UnfinishedPack, "add", 10)
    damage(cache / unfinished_pack.JOURNAL, cache / "pictures.npy.part")
    assert resumed(monkeypatch, source, cache) == PICTURES - 10 + again
    assert content(cache) == whole


def test_records_lost_while_they_were_moved_are_packed_again(tmp_path, monkeypatch, source, whole):
    cache = tmp_path / "c"
    interrupted(monkeypatch, source, cache, packs, "read_picture_bytes", 4)
    data = (cache / "pictures.npy.part").read_bytes()
    (cache / "pictures.npy.part").write_bytes(data[:-200] + bytes(200))
    assert resumed(monkeypatch, source, cache) == PICTURES
    assert content(cache) == whole


def test_other_settings_start_again(tmp_path, monkeypatch, source):
    cache = tmp_path / "c"
    interrupted(monkeypatch, source, cache, unfinished_pack.UnfinishedPack, "add", 10)
    packed = pack_pictures(source, cache, PackSettings(size=16), workers=1, resume=True)
    assert packed.images.shape == (PICTURES - 3, 16, 16, 3)
    assert sorted(content(cache)) == [".tunit-cache", "index.json", "pictures.npy"]


def test_after_a_full_disk_finished_work_is_kept(tmp_path, monkeypatch, source, whole):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    cache = tmp_path / "c"
    with monkeypatch.context() as patch, pytest.raises(DataError, match="goes on where it stopped"):
        write, calls = packs.write_picture_bytes, iter(range(99))
        patch.setattr(packs, "write_picture_bytes", lambda *a: (write if next(calls) < 6 else full)(*a))
        pack_pictures(source, cache, SMALL, workers=1, resume=True)
    assert resumed(monkeypatch, source, cache) < PICTURES - 5
    assert content(cache) == whole


KILLED = """
import os, signal, sys
from pathlib import Path
from tunit.data.packing import packed
write, calls = packed.write_picture_bytes, iter(range(99))
def die(*arguments):
    write(*arguments)
    if next(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
packed.write_picture_bytes = die
from tunit.cli import main
main(["prepare", sys.argv[1], "--out", sys.argv[2], "--image-size", "32", "--workers", "1"])
"""


def test_the_command_continues_after_kill_9(tmp_path, source, capsys):
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "c")]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    words = ["prepare", str(source), "--image-size", "32", "--workers", "1", "--out"]
    assert main([*words, str(tmp_path / "c")]) == 0
    said = capsys.readouterr()
    assert f"going on after 10 of {PICTURES} pictures" in said.err
    assert "3 left out" in said.out
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert content(tmp_path / "c") == content(tmp_path / "whole")
