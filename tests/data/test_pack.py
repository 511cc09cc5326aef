"""Packing: a hostile folder from start to end, the pack, interrupts and crashes, one process or several."""

import hashlib
import importlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from packed_pictures import with_labels
from tunit.data.decoding.decode import decode_picture
from tunit.data.decoding.worker_process import bounded
from tunit.data.decoding.workers import WorkerLostError, close_workers, in_worker
from tunit.data.finding import archives
from tunit.data.finding.find import find_pictures
from tunit.data.finding.index import Index, read_index, write_index
from tunit.data.finding.left_out import LeftOut
from tunit.data.packing import packed as packs
from tunit.data.packing import squares
from tunit.data.packing.doubts import warning_if_dark
from tunit.data.packing.fit import fit_picture
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards
from tunit.errors import ConfigError, DataError

SMALL = PackSettings(size=16)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int = 0, height: int = 40, width: int = 30) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(root: Path, count: int, start: int = 0) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (root / f"{number:03}.png").write_bytes(encode(noise(number)))
    return root


def state(root: Path) -> dict[str, tuple[int, int, str]]:
    """All contents of a folder that packing must not change."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def check(packed: PackedPictures, size: int = 16) -> None:
    """Checks that every result must pass."""
    count = len(packed.names)
    assert packed.images.shape == (count, size, size, 3)
    assert packed.images.dtype == np.uint8
    assert isinstance(packed.images, np.memmap)
    assert not packed.images.flags.writeable
    assert packed.names == sorted(set(packed.names))
    assert packed.labels.shape == (count,)
    assert packed.labels.dtype == np.int64
    assert packed.classes == sorted(set(packed.classes))
    assert packed.hashes == [
        hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in packed.images
    ]


def reasons(packed: PackedPictures) -> dict[str, str]:
    return {item.name: item.reason for item in packed.left_out}


def bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def hostile_folder(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with all kinds of files that people have, and the reason for each file that must be left out."""
    root = tmp_path / "hostile"
    (root / "x.jpg").mkdir(parents=True)
    (root / "sub" / "deep").mkdir(parents=True)
    ramp = (np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)
    palette = noise(3).quantize(16)
    alpha = noise(5).convert("L")
    good = {
        "animated.gif": encode(noise(1), "GIF", save_all=True, append_images=[noise(2)]),
        "palette.png": encode(palette, transparency=3),
        "grey alpha.png": encode(Image.merge("LA", (noise(4).convert("L"), alpha))),
        "rgba.webp": encode(Image.merge("RGBA", (*noise(6).split(), alpha)), "WEBP", lossless=True),
        "cmyk.jpg": encode(noise(7).convert("CMYK"), "JPEG"),
        "sixteen.png": encode(Image.fromarray(ramp)),
        "pärk 公園 🙂.TIFF": encode(noise(8), "TIFF"),
        "sub/deep/UPPER.BMP": encode(noise(9), "BMP"),
        "x.jpg/inside.ppm": encode(noise(10), "PPM"),
        "really a png.jpg": encode(noise(11)),
        "no suffix": encode(noise(12), "JPEG"),
        "a first.png": encode(noise(13)),
    }
    bad = {
        "cut.jpg": (encode(noise(14, 300, 300), "JPEG")[:9000], "truncated"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "unreadable"),
        "zero.png": (b"", "empty"),
        "bomb.png": (bomb(), "decompression bomb"),
        "dot.gif": (encode(noise(15, 1, 1), "GIF"), "too small"),
        "strip.png": (encode(noise(16, 15, 400)), "too small"),
        "same bytes.png": (good["a first.png"], "duplicate"),
        "same pixels.bmp": (encode(noise(13), "BMP"), "duplicate"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "unreadable"),
    }
    for name, data in good.items() | {(name, data) for name, (data, _) in bad.items()}:
        (root / name).write_bytes(data)
    (root / "notes.txt").write_text("no picture")
    (root / "Thumbs.db").write_bytes(b"no picture")
    (root / ".hidden.jpg").write_bytes(b"no picture")
    (tmp_path / "secret.png").write_bytes(encode(noise(17)))
    (root / "outside.png").symlink_to(tmp_path / "secret.png")
    (root / "loop").symlink_to(root)
    for path in root.rglob("*.*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o444)
    return root, {name: reason for name, (_, reason) in bad.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hostile_folder_gives_all_good_pictures_and_a_reason_for_others(
    tmp_path: Path, workers: int
) -> None:
    root, expected = hostile_folder(tmp_path)
    before = state(root)
    packed = pack_pictures(root, tmp_path / "cache", SMALL, workers=workers)
    check(packed)
    assert reasons(packed) == expected
    assert len(packed.names) == 13
    assert state(root) == before
    for name, image in zip(packed.names, packed.images, strict=True):
        whole = fit_picture(decode_picture((root / name).read_bytes()), 16, "stretch")
        assert np.array_equal(image, whole), name
    assert packed.labels.tolist() == [-1] * 13
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        ".tunit-cache", "index.json", "pictures.npy"
    ]  # fmt: skip


def test_several_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 70)
    for number in (3, 40, 41, 69):
        (root / f"{number:03}.png").write_bytes(b"bad")
    (root / "dup.png").write_bytes((root / "001.png").read_bytes())
    one = pack_pictures(root, tmp_path / "one", SMALL, workers=1)
    two = pack_pictures(root, tmp_path / "two", SMALL, workers=2)
    check(two)
    assert len(two.names) == 66
    assert one.left_out == two.left_out
    for name in ("pictures.npy", "index.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_archive_gives_the_same_as_its_folder(tmp_path: Path, kind: str, workers: int) -> None:
    root = fill(tmp_path / "p", 40)
    path = tmp_path / f"p.{kind}"
    # In reverse order of names, so that the order of reading must not change the result.
    members = sorted(root.iterdir(), reverse=True)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.write(member, member.name)
    else:
        with tarfile.open(path, "w:" + kind.partition(".")[2]) as tar:  # type: ignore[call-overload]
            for member in members:
                tar.add(member, member.name)
    packed = pack_pictures(path, tmp_path / "a", SMALL, workers=workers)
    expected = pack_pictures(root, tmp_path / "b", SMALL, workers=1)
    assert packed.names == expected.names
    assert np.array_equal(packed.images, expected.images)
    assert not archives._open_files
    assert pack_pictures(path, tmp_path / "a", SMALL).reused
    os.utime(path, ns=(1, 1))
    assert not pack_pictures(path, tmp_path / "a", SMALL, workers=1).reused


def test_an_archive_is_read_from_front_to_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To go back in a compressed archive, one must unpack it again from its start."""
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tar:
        for path in sorted(fill(tmp_path / "p", 40).iterdir(), key=lambda path: path.name[::-1]):
            tar.add(path, path.name)
    seen: list[int] = []
    read = archives.TarMember.read

    def noted(self: archives.TarMember) -> bytes:
        seen.append(self.position)
        return read(self)

    monkeypatch.setattr(archives.TarMember, "read", noted)
    # in this process, where `seen` records it
    monkeypatch.setattr(squares, "in_worker", lambda function, item: function(item))
    assert len(pack_pictures(tmp_path / "p.tar.gz", tmp_path / "c", SMALL, workers=1).names) == 40
    assert seen == sorted(seen)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_fit_and_background_are_used(tmp_path: Path, fit: str) -> None:
    (tmp_path / "p").mkdir()
    Image.new("RGBA", (80, 40), (0, 0, 0, 0)).save(tmp_path / "p/clear.png")
    noise(0, 40, 80).save(tmp_path / "p/noise.png")
    settings = PackSettings(size=16, fit=fit, background=(9, 8, 7))
    packed = pack_pictures(tmp_path / "p", tmp_path / "c", settings)
    assert np.array_equal(packed.images[0], np.broadcast_to(np.uint8([9, 8, 7]), (16, 16, 3)))
    assert np.array_equal(packed.images[1], fit_picture(noise(0, 40, 80), 16, fit, (9, 8, 7)))


def test_labels_come_only_from_folders_of_kept_pictures(tmp_path: Path) -> None:
    root = tmp_path / "p"
    fill(root / "dog", 2)
    fill(root / "cat", 1, start=5)
    fill(root, 1, start=9)
    (root / "ant").mkdir()
    (root / "ant/x.jpg").write_bytes(b"bad")
    packed = pack_pictures(root, tmp_path / "c", PackSettings(size=16, labels="folders"))
    check(packed)
    assert packed.names == ["009.png", "cat/005.png", "dog/000.png", "dog/001.png"]
    assert (packed.labels.tolist(), packed.classes) == ([-1, 0, 1, 1], ["cat", "dog"])


def test_labels_come_from_a_table(tmp_path: Path) -> None:
    fill(tmp_path / "p", 3)
    table = tmp_path / "p/t.csv"
    table.write_text("file,kind\n002.png,b\n000.png,\n001.png,a\n")
    settings = PackSettings(size=16, labels="csv", label_column="kind")
    packed = pack_pictures(table, tmp_path / "c", settings)
    assert (packed.labels.tolist(), packed.classes) == ([-1, 0, 1], ["a", "b"])
    plain = pack_pictures(table, tmp_path / "c", SMALL)
    assert (plain.labels.tolist(), plain.classes, plain.reused) == ([-1, -1, -1], [], False)


def test_only_the_first_of_identical_pictures_is_kept_by_default(tmp_path: Path) -> None:
    root = tmp_path / "p"
    for name in ("b/x.png", "a/y.png", "b/z.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(noise(0)))
    packed = pack_pictures(root, tmp_path / "c", PackSettings(size=16, labels="folders"))
    assert packed.names == ["a/y.png"]
    assert [item.detail for item in packed.left_out] == [
        "the same picture as a/y.png, which is labelled 'a' and this one 'b'"
    ] * 2
    packed = pack_pictures(root, tmp_path / "c", PackSettings(size=16, keep_duplicates=True))
    check(packed)
    assert (packed.names, packed.left_out) == (["a/y.png", "b/x.png", "b/z.png"], [])


@pytest.mark.parametrize("shards", [False, True])
def test_of_identical_pictures_one_with_a_label_is_kept(tmp_path: Path, shards: bool) -> None:
    """Users who label a few pictures may copy these into folders of their labels."""
    root = tmp_path / "p"
    for name, seed in (
        ("0.png", 0),
        ("1.png", 1),
        ("2.png", 0),
        ("cat/x.png", 0),
        ("fox/y.png", 0),
        ("z.png", 1),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(noise(seed)))
    settings = PackSettings(size=16, labels="folders")
    packed = pack_pictures(root, tmp_path / "c", settings)
    check(packed)
    if shards:
        made = pack_shards(Search(root, settings), tmp_path / "s", 2, workers=1)
        assert np.array_equal(made.images[:], packed.images)
        packed = made
    assert packed.names == ["1.png", "cat/x.png"]
    assert (list(packed.labels), packed.classes) == ([-1, 0], ["cat"])
    assert {item.name: item.detail for item in packed.left_out} == {
        "0.png": "the same picture as cat/x.png, which is labelled 'cat'",
        "2.png": "the same picture as cat/x.png, which is labelled 'cat'",
        "fox/y.png": "the same picture as cat/x.png, which is labelled 'cat' and this one 'fox'",
        "z.png": "the same picture as 1.png",
    }


def test_progress_reaches_the_number_of_pictures(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fill(tmp_path / "p", 40)
    pack_pictures(tmp_path / "p", tmp_path / "c", SMALL, progress=lambda *at: seen.append(at))
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_strict_reports_the_bad_pictures_by_name(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 3)
    (root / "dup.png").write_bytes(encode(noise(0)))
    assert len(pack_pictures(root, tmp_path / "c", SMALL, strict=True).names) == 3
    (root / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"1 unreadable \(bad.jpg: not a JPEG"):
        pack_pictures(root, tmp_path / "c", SMALL, strict=True)
    assert len(pack_pictures(root, tmp_path / "c", SMALL).names) == 3
    with pytest.raises(DataError, match=r"1 unreadable \(bad.jpg"):
        pack_pictures(root, tmp_path / "c", SMALL, strict=True)
    (root / "bad.jpg").unlink()
    (root / "link.jpg").symlink_to("/nowhere.jpg")
    with pytest.raises(DataError, match=r"1 unreadable \(link.jpg"):
        pack_pictures(root, tmp_path / "c", SMALL, strict=True)


def test_a_folder_with_only_bad_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/bad.jpg").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"holds no picture that can be used .*bad\.jpg"):
        pack_pictures(tmp_path / "p", tmp_path / "c", SMALL)
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".tunit-cache"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "^size is 0: take"),
        ({"fit": "zoom"}, "fit 'zoom' is unknown"),
        ({"labels": "x"}, "labels 'x' is unknown"),
        ({"background": (0, 0, 256)}, "is not a colour"),
        ({"min_side": 0}, "min_side is 0: take"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackSettings(**{"size": 16, **wrong})


# The pack


def test_a_pack_is_reused_while_nothing_changes(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 3)
    (root / "bad.png").write_bytes(b"bad")
    first = pack_pictures(root, tmp_path / "c", SMALL)
    before = state(tmp_path / "c")
    again = pack_pictures(root, tmp_path / "c", SMALL)
    opened = open_packed(tmp_path / "c")
    assert state(tmp_path / "c") == before
    assert (first.reused, again.reused, opened.reused) == (False, True, True)
    for packed in (again, opened):
        check(packed)
        assert np.array_equal(packed.images, first.images)
        assert (packed.names, packed.hashes, packed.left_out) == (first.names, first.hashes, first.left_out)
    column = PackSettings(size=16, label_column="kind")  # without labels from a table this changes nothing
    assert pack_pictures(root, tmp_path / "c", column).reused


def test_a_pack_is_packed_again_if_the_source_changes(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 3)

    def packed() -> PackedPictures:
        result = pack_pictures(root, tmp_path / "c", SMALL)
        assert not result.reused
        assert pack_pictures(root, tmp_path / "c", SMALL).reused
        return result

    assert packed().names == ["000.png", "001.png", "002.png"]
    os.utime(root / "000.png", ns=(5, 5))
    packed()
    fill(root, 1, start=9)
    assert packed().names == ["000.png", "001.png", "002.png", "009.png"]
    (root / "001.png").unlink()
    assert packed().names == ["000.png", "002.png", "009.png"]
    (root / "002.png").write_bytes(encode(noise(77)))
    assert np.array_equal(packed().images[1], fit_picture(noise(77), 16, "stretch"))


@pytest.mark.parametrize(
    "other",
    [
        {"size": 17}, {"fit": "crop"}, {"background": (0, 0, 0)}, {"min_side": 17}, {"max_pixels": 10**6},
        {"labels": "folders"}, {"keep_duplicates": True},
    ],
)  # fmt: skip
def test_a_pack_is_packed_again_if_a_setting_changes(tmp_path: Path, other: dict[str, Any]) -> None:
    root = fill(tmp_path / "p", 2)
    pack_pictures(root, tmp_path / "c", SMALL)
    assert not pack_pictures(root, tmp_path / "c", PackSettings(**{"size": 16, **other})).reused


def test_a_pack_of_an_older_decoder_is_packed_again_but_still_opens(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 2)
    pack_pictures(root, tmp_path / "c", SMALL)
    index = json.loads((tmp_path / "c" / "index.json").read_text())
    del index["settings"]["decoding"]  # packs of older versions do not contain this number
    (tmp_path / "c" / "index.json").write_text(json.dumps(index))
    assert len(open_packed(tmp_path / "c").names) == 2  # a resumed run reads it so
    assert not pack_pictures(root, tmp_path / "c", SMALL).reused
    assert pack_pictures(root, tmp_path / "c", SMALL).reused


def damage_nothing_but_the_end(cache: Path) -> None:
    os.truncate(cache / "pictures.npy", 128 + 2 * 768 - 1)


def damage_the_header(cache: Path) -> None:
    data = (cache / "pictures.npy").read_bytes()
    (cache / "pictures.npy").write_bytes(data.replace(b"(2, 16", b"(16, 2"))


def remove_the_pixels(cache: Path) -> None:
    (cache / "pictures.npy").unlink()


def remove_the_index(cache: Path) -> None:
    (cache / "index.json").unlink()


def cut_the_index(cache: Path) -> None:
    os.truncate(cache / "index.json", 100)


def empty_the_index(cache: Path) -> None:
    (cache / "index.json").write_text("[]")


def lose_a_name(cache: Path) -> None:
    index = json.loads((cache / "index.json").read_text())
    index["names"].pop()
    (cache / "index.json").write_text(json.dumps(index))


def label_beyond_the_classes(cache: Path) -> None:
    index = json.loads((cache / "index.json").read_text())
    index["labels"][0] = 5
    (cache / "index.json").write_text(json.dumps(index))


def come_from_the_future(cache: Path) -> None:
    index = json.loads((cache / "index.json").read_text())
    index["version"] = 99
    (cache / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_but_the_end, damage_the_header, remove_the_pixels, remove_the_index, cut_the_index,
        empty_the_index, lose_a_name, label_beyond_the_classes, come_from_the_future,
    ],
)  # fmt: skip
def test_a_damaged_cache_is_refused_and_packed_again(tmp_path: Path, damage: Any) -> None:
    root, cache = fill(tmp_path / "p", 2), tmp_path / "c"
    pack_pictures(root, cache, SMALL)
    damage(cache)
    with pytest.raises(DataError, match="prepare the pictures"):
        open_packed(cache)
    packed = pack_pictures(root, cache, SMALL)
    check(packed)
    assert not packed.reused


def test_a_pack_that_tunit_did_not_write_is_not_overwritten(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 2)
    for name in ("index.json", "pictures.npy"):
        cache = tmp_path / name.partition(".")[0]
        cache.mkdir()
        (cache / name).write_text("{}")
        with pytest.raises(DataError, match="not written by tunit: choose another folder"):
            pack_pictures(root, cache, SMALL)
        assert [path.name for path in cache.iterdir()] == [name]
    with pytest.raises(DataError, match="holds the pictures themselves"):
        pack_pictures(root, tmp_path / "p/../p", SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to"):
        pack_pictures(root, tmp_path / "file", SMALL)
    with pytest.raises(DataError, match=r"holds no index.json: prepare the pictures first"):
        open_packed(tmp_path / "nowhere")


def test_an_error_without_the_systems_own_text_is_quoted(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(path: Path, *given: Any, **how: Any) -> None:
        raise OSError("the store of this folder is gone")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(DataError, match=r"cannot be written to \(the store of this folder is gone\)"):
        pack_pictures(fill(tmp_path / "p", 2), tmp_path / "pack", SMALL)


def test_a_pack_may_be_inside_the_folder_of_pictures(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", 2)
    assert len(pack_pictures(root, root / "cache", SMALL).names) == 2
    assert pack_pictures(root, root / "cache", SMALL).reused


def test_too_little_space_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2 * 768 - 1}))
    with pytest.raises(DataError, match="1,535 bytes free and 1,536 are needed"):
        pack_pictures(fill(tmp_path / "p", 2), tmp_path / "c", SMALL)


def test_a_full_disk_is_an_error_and_no_file_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs, "write_picture_bytes", full)
    with pytest.raises(DataError, match="No space left on device"):
        pack_pictures(fill(tmp_path / "p", 2), tmp_path / "c", SMALL)
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".tunit-cache"]


@pytest.mark.parametrize("step", [0, 1])
def test_a_crash_between_two_steps_leaves_no_cache_that_looks_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """An older, valid pack is replaced, and the process ends at each of the two renames."""
    root, cache = fill(tmp_path / "p", 2), tmp_path / "c"
    pack_pictures(root, cache, SMALL)
    fill(root, 1, start=5)
    replace, calls = Path.replace, iter(range(9))

    def die(self: Path, target: Path) -> Path:
        if next(calls) == step:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            pack_pictures(root, cache, SMALL)
    with pytest.raises(DataError):
        open_packed(cache)
    assert not list(cache.glob("*.part"))
    assert len(pack_pictures(root, cache, SMALL).names) == 3


def test_files_of_killed_jobs_are_removed(tmp_path: Path) -> None:
    root, cache = fill(tmp_path / "p", 2), tmp_path / "c"
    cache.mkdir()
    (cache / "pictures.npy.123.part").write_bytes(b"half")
    (cache / "download.part").write_bytes(b"of someone else")
    pack_pictures(root, cache, SMALL)
    assert [path.name for path in cache.glob("*.part")] == ["download.part"]


def test_paths_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "p", 40)
    monkeypatch.chdir(tmp_path)
    packed = pack_pictures(Path("p"), Path("c"), SMALL, workers=2)
    assert (len(packed.names), packed.left_out) == (40, [])
    assert (tmp_path / "c/pictures.npy").exists()


def test_dropped_records_leave_a_plain_array(tmp_path: Path) -> None:
    path = packs.new_pixels(tmp_path, 12, 4)
    records = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    for slot, record in enumerate(records):
        packs.write_picture_bytes(path, slot, record)
    assert np.array_equal(np.load(path), records)
    packs.keep_pictures(path, [0, 3, 4, 11], 4)
    assert np.array_equal(np.load(path), records[[0, 3, 4, 11]])


# Processes

PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    from tunit.data.packing.pack import pack_pictures
    from tunit.data.packing.pack_settings import PackSettings

    def progress(done, total):
        {action}

    # A shell's background job, and with it this test, may begin with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def main():
        root, cache = map(Path, sys.argv[1:])
        packed = pack_pictures(root, cache, PackSettings(size=16), workers={workers}, progress=progress)
        print(len(packed.names), packed.reused)

    {call}
"""
GUARDED = 'if __name__ == "__main__": main()'


def program(tmp_path: Path, action: str = "pass", workers: int = 2, call: str = GUARDED) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM).format(action=action, workers=workers, call=call))
    return [sys.executable, "-W", "error", str(script), str(tmp_path / "p"), str(tmp_path / "c")]


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit status and the errors of a process. Its child processes must end soon after it."""
    _, errors = process.communicate(timeout=60)
    for _ in range(100):
        if group_is_gone(process.pid):
            return process.returncode, errors
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("worker processes outlived their parent")


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_an_interrupt_leaves_no_cache_and_no_process(tmp_path: Path) -> None:
    fill(tmp_path / "p", 200)
    action = "done == 32 and os.killpg(0, signal.SIGINT)"  # as the terminal does for Ctrl-C
    status, errors = ended(start(program(tmp_path, action)))
    assert status == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".tunit-cache"]


def test_a_kill_leaves_no_valid_cache_and_no_process(tmp_path: Path) -> None:
    fill(tmp_path / "p", 200)
    status, _ = ended(start(program(tmp_path, "done == 32 and os.kill(os.getpid(), signal.SIGKILL)")))
    assert status == -signal.SIGKILL
    with pytest.raises(DataError):
        open_packed(tmp_path / "c")
    packed = pack_pictures(tmp_path / "p", tmp_path / "c", SMALL, workers=1)
    assert len(packed.names) == 200
    assert not list((tmp_path / "c").glob("*.part"))


def test_two_jobs_on_one_cache_share_the_work(tmp_path: Path) -> None:
    fill(tmp_path / "p", 60)
    command = program(tmp_path, "import time; time.sleep(0.2)", workers=1)
    jobs = [start(command) for _ in range(2)]
    outputs = [job.communicate(timeout=60) for job in jobs]
    assert sorted(output for output, _ in outputs) == ["60 False\n", "60 True\n"]


def test_a_daemon_packs_without_children(tmp_path: Path) -> None:
    fill(tmp_path / "p", 40)
    call = """
    if __name__ == "__main__":
        import multiprocessing
        daemon = multiprocessing.get_context("spawn").Process(target=main, daemon=True)
        daemon.start()
        daemon.join()"""
    command = program(tmp_path, call=textwrap.dedent(call))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("40 False\n", "")


def test_a_script_without_a_main_guard_still_gets_its_pictures(tmp_path: Path) -> None:
    fill(tmp_path / "p", 40)
    done = subprocess.run(
        program(tmp_path, call="main()"), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "40 False\n")
    assert done.stderr == ""  # no worker imports the script a second time


TASKS = """
    import os, signal, time
    from tunit.data.decoding.worker_process import bounded

    def double_or_die(number):
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number

    def process(_):
        return os.getpid()

    def fail(number):
        raise OSError(28, "No space left on device")

    def compute_for(seconds):
        with bounded(0.2, 1 << 28):
            end = time.process_time() + seconds
            while time.process_time() < end:
                pass
        return "done"

    def take(size):
        with bounded(5, 1 << 28):
            return len(bytes(size))
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that worker processes can import."""
    close_workers()  # workers that run now cannot import the module
    (tmp_path / "tunit_tasks.py").write_text(textwrap.dedent(TASKS))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("tunit_tasks")
    assert (
        in_worker(module.process, 0) != os.getpid()
    )  # otherwise a task that kills its process would kill this one
    yield module
    del sys.modules["tunit_tasks"]
    close_workers()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux")
def test_modules_that_a_request_imports_do_not_count_as_memory_of_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_workers()
    (tmp_path / "tunit_large_module.py").write_text(
        "from tunit.data.decoding.worker_process import bounded\n"
        "kept = bytearray(1 << 29)\n"
        "def take(size):\n    with bounded(5, 1 << 28):\n        return len(bytes(size))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("tunit_large_module")
    try:
        assert in_worker(module.take, 1 << 27) == 1 << 27
        with pytest.raises(MemoryError):
            in_worker(module.take, 1 << 29)
    finally:
        del sys.modules["tunit_large_module"]
        close_workers()


def test_a_crash_affects_only_the_item_that_causes_it(tasks: Any) -> None:
    assert in_worker(tasks.double_or_die, 6) == 12
    with pytest.raises(WorkerLostError) as caught:
        in_worker(tasks.double_or_die, 7)
    assert not caught.value.slow
    assert in_worker(tasks.double_or_die, 8) == 16


def test_an_error_in_a_worker_is_raised_unchanged(tasks: Any) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        in_worker(tasks.fail, 1)
    assert in_worker(tasks.double_or_die, 8) == 16


def test_time_and_memory_of_a_worker_are_bounded(tasks: Any) -> None:
    assert in_worker(tasks.compute_for, 0.01) == "done"
    with pytest.raises(WorkerLostError) as caught:
        in_worker(tasks.compute_for, 100)
    assert caught.value.slow
    assert in_worker(tasks.take, 1 << 20) == 1 << 20
    if sys.platform == "linux":
        with pytest.raises(MemoryError):
            in_worker(tasks.take, 1 << 29)
    assert in_worker(tasks.take, 1 << 20) == 1 << 20
    with bounded(0, 0):  # this process has no limits
        assert len(bytes(1 << 20)) == 1 << 20


def test_an_idle_worker_that_died_is_replaced(tasks: Any) -> None:
    assert in_worker(tasks.double_or_die, 1) == 2
    close_workers()
    assert in_worker(tasks.double_or_die, 2) == 4


@pytest.mark.parametrize(
    ("white", "word"), [(4095, "very dark"), (1023, "very dark"), (16383, "very dark"), (65535, None)]
)
def test_a_set_of_low_bit_values_in_16_bit_files_gets_a_remark(
    tmp_path: Path, white: int, word: str | None
) -> None:
    (tmp_path / "p").mkdir()
    for number in range(3):
        ramp = np.tile(np.linspace(0, white, 32 + number).astype(np.uint16), (32, 1))
        Image.fromarray(ramp).save(tmp_path / "p" / f"{number}.png")
    remark = warning_if_dark(pack_pictures(tmp_path / "p", tmp_path / "c", SMALL))
    assert word in remark if word and remark else (remark is None) == (word is None)


def test_relative_paths_start_at_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name / "p", 2, start=ord(name))
        monkeypatch.chdir(tmp_path / name)
        packed = pack_pictures(Path("p"), Path("c"), SMALL)  # one worker serves both calls
        source = find_pictures(Path("p")).pictures[0]
        assert np.array_equal(squares.fitted(source, SMALL.squaring()).pixels, packed.images[0])


def test_names_in_the_index_are_unchanged(tmp_path: Path) -> None:
    root = tmp_path / "p"
    root.mkdir()
    raw = os.fsencode(root) + b"/\xff\n.png"
    Path(os.fsdecode(raw)).write_bytes(encode(noise(0)))
    (root / "bad\udcfe.png").write_bytes(b"bad")
    pack_pictures(root, tmp_path / "c", SMALL)
    packed = open_packed(tmp_path / "c")
    assert packed.names == ["\udcff\n.png"]
    assert packed.left_out == [
        LeftOut("bad\udcfe.png", "unreadable", "not a JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF or PPM picture")
    ]
    assert pack_pictures(root, tmp_path / "c", SMALL).reused


def test_an_index_is_written_in_little_memory(tmp_path: Path) -> None:
    number = 20_000
    names, hashes = [f"{i:07}.jpg" for i in range(number)], [f"{i:064x}" for i in range(number)]
    left_out = [LeftOut("a.txt", "unreadable", "no picture \u00e9")]
    index = Index(64, {"fit": "crop"}, "f" * 64, names, [-1] * number, [], hashes, left_out)
    tracemalloc.start()
    write_index(tmp_path / "index.json", index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    written = (tmp_path / "index.json").read_bytes()
    expected = {"format": "tunit pictures", "version": json.loads(written)["version"], **vars(index)}
    expected["left_out"] = [["a.txt", "unreadable", "no picture \u00e9"]]
    del expected["shards"]
    assert written == json.dumps(expected).encode()  # the bytes that were always written
    assert read_index(tmp_path) == index
    assert peak < len(written) / 4


@pytest.mark.parametrize(
    ("labels", "any_labelled", "all_labelled"),
    [([-1, -1], False, False), ([0, -1], True, False), ([0, 1], True, True)],
)
def test_a_pack_says_whether_some_or_all_of_its_pictures_have_labels(labels, any_labelled, all_labelled):
    pictures = with_labels(labels)
    assert (pictures.any_labelled, pictures.all_labelled) == (any_labelled, all_labelled)
