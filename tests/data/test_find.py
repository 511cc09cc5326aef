"""Finding pictures: hostile folders and archives made here, and lists and tables as people write them."""

import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tunit.data.decoding.decode import PictureError
from tunit.data.finding.archives import MAX_BYTES, close_archives
from tunit.data.finding.class_folders import class_labels
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import Found
from tunit.data.finding.left_out import LeftOut, summarise_left_out
from tunit.errors import DataError


def picture(seed: int = 0, kind: str = "PNG", side: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def fill(root: Path, *names: str) -> dict[str, bytes]:
    """One picture for each name, all different."""
    content = {name: picture(seed) for seed, name in enumerate(names)}
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return content


def names(found: Found) -> list[str]:
    return [item.name for item in found.pictures]


def contents(found: Found) -> dict[str, bytes]:
    return {item.name: item.read() for item in found.pictures}


def labels(found: Found) -> dict[str, str | None]:
    return {item.name: item.label for item in found.pictures}


def reasons(found: Found) -> dict[str, str]:
    return {item.name: item.reason for item in found.left_out}


def names_by_number(found: Found) -> list[str]:
    return sorted(names(found), key=lambda name: int(name.partition(".")[0]))


# Folders


def test_a_nested_folder_is_found_in_the_order_of_names(tmp_path: Path) -> None:
    content = fill(
        tmp_path, "b/x.png", "a.PNG", "b.jpg/inner.png", "b/deep/er/ä ö.png", "Z.jpeg", "10.gif", "9.gif"
    )
    found = find_pictures(tmp_path)
    assert names(found) == sorted(content) == [
        "10.gif", "9.gif", "Z.jpeg", "a.PNG", "b.jpg/inner.png", "b/deep/er/ä ö.png", "b/x.png"
    ]  # fmt: skip
    assert contents(found) == content
    assert found.left_out == []


def test_files_that_are_not_pictures_are_skipped_silently(tmp_path: Path) -> None:
    content = fill(tmp_path, "a.png")
    fill(tmp_path, ".hidden.png", ".git/b.png", "__MACOSX/c.png", "__MACOSX/._a.png", "@eaDir/d.png")
    for name in (
        "notes.txt",
        "t.csv",
        "x.json",
        "Thumbs.db",
        "desktop.ini",
        "README",
        "run",
        "model.pt",
        "a.zip",
    ):
        (tmp_path / name).write_bytes(b"P5 this is not a picture" if name == "notes.txt" else b"words")
    found = find_pictures(tmp_path)
    assert (names(found), found.left_out) == (list(content), [])


def test_an_unknown_suffix_is_judged_by_content(tmp_path: Path) -> None:
    content = fill(tmp_path, "no suffix", "odd.xyz", "3f2a.0")
    (tmp_path / "other.xyz").write_bytes(b"nothing")
    (tmp_path / "empty").write_bytes(b"")
    assert contents(find_pictures(tmp_path)) == content


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    content = fill(root, "in/a.png")
    fill(outside, "secret.png", "more/b.png", "more/deep/c.png")
    (root / "fine.png").symlink_to("in/a.png")
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "relative.png").symlink_to("../outside/secret.png")
    (root / "folder").symlink_to(outside / "more")
    (outside / "more/again").symlink_to(outside / "more")
    (outside / "more/back").symlink_to(root / "in")
    (root / "loop").symlink_to(".")
    (root / "in/up").symlink_to("../in")
    (root / "around").symlink_to(tmp_path)
    (root / "everything").symlink_to("/")
    (root / "self.png").symlink_to("self.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "notes.txt").symlink_to(outside / "secret.png")
    found = find_pictures(root)
    secret = (outside / "secret.png").read_bytes()
    assert contents(found) == {
        **content,
        "fine.png": content["in/a.png"],
        "out.png": secret,
        "relative.png": secret,
        "folder/b.png": (outside / "more/b.png").read_bytes(),
        "folder/deep/c.png": (outside / "more/deep/c.png").read_bytes(),
    }
    assert reasons(found) == {
        "around": "outside",
        "everything": "outside",
        "self.png": "unreadable",
        "gone.png": "unreadable",
    }
    assert "3 links (folder, out.png and 1 more) that lead out of the folder were followed" in found.notes[0]


def test_a_folder_that_holds_only_links_is_read(tmp_path: Path) -> None:
    """The caches of Hugging Face, DVC and git-annex hold a data set, or a part of one, as links."""
    blobs = fill(tmp_path / "blobs", "0a", "0b", "0c")
    for number, blob in enumerate(blobs):
        link = tmp_path / "snapshot" / ("cat" if number else "dog") / f"{number}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../blobs/{blob}")
    found = find_pictures(tmp_path / "snapshot", labels="folders")
    assert labels(found) == {"dog/0.png": "dog", "cat/1.png": "cat", "cat/2.png": "cat"}
    assert sorted(contents(found).values()) == sorted(blobs.values())


def test_broken_links_are_reported_as_links(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(".git/annex/objects/gone")
    with pytest.raises(DataError, match="a link to a missing file: download its target"):
        find_pictures(tmp_path)


def test_broken_links_that_may_have_led_to_a_class_are_reported(tmp_path: Path) -> None:
    """Such as to a disk that is not mounted now."""
    fill(tmp_path, "dogs/a.png")
    for name in ("cats", "birds.zip", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "not" / "mounted" / name)
    found = find_pictures(tmp_path)
    assert reasons(found) == {"cats": "unreadable", "birds.zip": "unreadable"}
    assert {item.detail for item in found.left_out} == {
        "a link to a missing file or folder: restore its target, or remove it"
    }


@pytest.mark.parametrize("backwards", [False, True])
def test_two_links_to_one_folder_do_not_depend_on_the_order_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    fill(tmp_path, "out/sub/a.png", "in/dogs/b.png")
    (tmp_path / "in/all").symlink_to("../out")
    (tmp_path / "in/cats").symlink_to("../out/sub")
    scandir = os.scandir

    @contextmanager
    def in_order(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as listing:
            yield sorted(listing, key=lambda entry: entry.name, reverse=backwards)

    monkeypatch.setattr(os, "scandir", in_order)
    assert names(find_pictures(tmp_path / "in")) == ["cats/a.png", "dogs/b.png"]


def test_a_link_to_a_folder_is_a_folder(tmp_path: Path) -> None:
    content = fill(tmp_path / "real", "a.png", "b/c.png")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/d.png").symlink_to("b/c.png")
    assert contents(find_pictures(tmp_path / "link")) == {**content, "d.png": content["b/c.png"]}


def test_a_link_into_a_hidden_folder_of_the_root_is_a_folder(tmp_path: Path) -> None:
    """Tools that keep versions of a set link its folders to a hidden store; each of its pictures counts once."""
    root = tmp_path / "root"
    made = fill(
        root, "dogs/a.png", "dogs/b.png", ".store/1/cats/c.png", ".store/1/cats/tabby/d.png", ".store/x.png"
    )
    (root / "cats").symlink_to(".store/1/cats")
    (root / ".store/1/cats/circle").symlink_to("../../1")
    (root / ".store/1/cats/back").symlink_to(root / "dogs")
    found = find_pictures(root)
    assert sorted(contents(found).values()) == sorted(made[name] for name in made if name != ".store/x.png")
    assert names(found) == ["cats/c.png", "cats/tabby/d.png", "dogs/a.png", "dogs/b.png"]
    assert (found.left_out, found.notes) == ([], ())


def test_a_folder_whose_name_starts_with_ours_is_outside(tmp_path: Path) -> None:
    fill(tmp_path / "root", "a.png")
    content = fill(tmp_path / "root2", "b.png")
    (tmp_path / "root/more").symlink_to("../root2")  # if it were inside, it would be skipped as found already
    assert contents(find_pictures(tmp_path / "root"))["more/b.png"] == content["b.png"]


def test_a_pipe_named_like_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert reasons(find_pictures(tmp_path)) == {"pipe.jpg": "unreadable"}


def test_names_that_are_not_text_stay_distinct_and_printable(tmp_path: Path) -> None:
    for raw in (b"\xff\xfe.png", b"\xff\xfd.png", b"line\nbreak.png", b"\x1b[31m.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_bytes(picture())
    found = find_pictures(tmp_path)
    assert len(set(names(found))) == 4
    text = summarise_left_out([LeftOut(name, "unreadable", "") for name in names(found)[:3]])
    assert text.isprintable()
    assert text.isascii()


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_pictures(tmp_path)
    assert (names(found), reasons(found)) == (["a.png"], {"locked/": "unreadable"})


def test_folders_give_labels(tmp_path: Path) -> None:
    fill(tmp_path, "top.png", "cat/1.png", "train/dog/2.png", "val/dog/3.png")
    expected = {"top.png": None, "cat/1.png": "cat", "train/dog/2.png": "dog", "val/dog/3.png": "dog"}
    assert labels(find_pictures(tmp_path, labels="folders")) == expected
    assert set(labels(find_pictures(tmp_path)).values()) == {None}


def test_finding_nothing_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures(tmp_path)
    (tmp_path / "x.png").symlink_to("/nowhere/x.png")
    with pytest.raises(DataError, match="1 unreadable"):
        find_pictures(tmp_path)
    with pytest.raises(DataError, match="labels 'magic' is unknown"):
        find_pictures(tmp_path, labels="magic")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no label column"):
        find_pictures(tmp_path, labels="csv")


def test_every_change_changes_the_fingerprint(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b/c.png")
    seen = [find_pictures(tmp_path).fingerprint]
    assert find_pictures(tmp_path).fingerprint == seen[0]

    def changed(change: Callable[[], object]) -> None:
        change()
        seen.append(find_pictures(tmp_path).fingerprint)

    changed(lambda: os.utime(tmp_path / "a.png", ns=(1, 1)))
    changed(lambda: fill(tmp_path, "d.png"))
    changed(lambda: (tmp_path / "d.png").rename(tmp_path / "e.png"))
    changed(lambda: (tmp_path / "e.png").unlink())
    changed(lambda: (tmp_path / "out.png").symlink_to("/nowhere"))
    # After the new picture was removed, the fingerprint is that after the first change; all others differ.
    assert len(set(seen)) == len(seen) - 1
    assert seen[4] == seen[1]
    (tmp_path / "notes.txt").write_text("no picture")
    assert find_pictures(tmp_path).fingerprint == seen[-1]


# A single file


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    for name in ("a.png", "b.txt.bak", "c"):
        content = fill(tmp_path, name)
        assert contents(find_pictures(tmp_path / name)) == content


def test_a_file_that_is_neither_picture_nor_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\0\1\2\3" * 100)
    with pytest.raises(DataError, match="neither a picture, an archive nor a text"):
        find_pictures(tmp_path / "x.bin")


def test_a_file_that_is_gone_or_too_large_is_a_picture_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.png", "b.png")
    found = find_pictures(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(PictureError, match="unreadable: No such file"):
        found.pictures[0].read()
    monkeypatch.setattr("tunit.data.finding.found.MAX_BYTES", 10)
    with pytest.raises(PictureError, match="too large: more than 10 bytes"):
        found.pictures[1].read()


# Archives


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def make_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, content: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            add_to_tar(archive, name, data)
    return path


KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def make_archive(folder: Path, kind: str, content: dict[str, bytes]) -> Path:
    """An archive whose name does not show its type."""
    path = folder / f"pictures of {kind.replace('.', ' ')}"
    if kind == "zip":
        return make_zip(path, content)
    return make_tar(path, content, "w:" + kind.partition(".")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_archives_are_read_without_unpacking_and_in_any_order(tmp_path: Path, kind: str) -> None:
    content = {f"z/{i:02}.png": picture(i) for i in range(9)} | {
        "a b/ü.JPG": picture(9, "JPEG"),
        "odd": picture(10),
    }
    others = {
        "read me.txt": b"hello",
        "__MACOSX/._x.png": b"x",
        ".hidden.png": b"x",
        "odd too": b"words",
        "n": b"",
    }
    archive = make_archive(tmp_path, kind, content | others)
    before = sorted(tmp_path.rglob("*"))
    found = find_pictures(archive, labels="folders")
    assert names(found) == sorted(content)
    assert found.left_out == []
    assert labels(found)["z/03.png"] == "z"
    for item in [*found.pictures, *reversed(found.pictures)]:
        assert pickle.loads(pickle.dumps(item)).read() == content[item.name]  # noqa: S301
    close_archives()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", KINDS)
def test_members_with_paths_outside_the_archive_are_left_out(tmp_path: Path, kind: str) -> None:
    good = {"./in/a.png": picture(1)}
    bad = [
        "../evil.jpg",
        "/abs.jpg",
        "in/../../evil.png",
        "C:\\evil.jpg",
        "..\\evil.jpg",
        "\\\\host\\evil.jpg",
    ]
    found = find_pictures(
        make_archive(tmp_path, kind, good | {name: picture() for name in bad} | {"../x.txt": b"x"})
    )
    assert names(found) == ["in/a.png"]
    assert reasons(found) == dict.fromkeys(bad, "outside")


def test_a_windows_zip_has_folders(tmp_path: Path) -> None:
    assert names(find_pictures(make_zip(tmp_path / "x.zip", {"cats\\1.png": picture()}))) == ["cats/1.png"]


def test_links_in_a_tar_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add_to_tar(archive, "a.png", picture())
        add_to_tar(archive, "soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_to_tar(archive, "hard.png", type=tarfile.LNKTYPE, linkname="a.png")
        add_to_tar(archive, "pipe.png", type=tarfile.FIFOTYPE)
        add_to_tar(archive, "dir.png", type=tarfile.DIRTYPE)
    found = find_pictures(tmp_path / "x.tar")
    assert names(found) == ["a.png"]
    assert reasons(found) == {"soft.png": "outside", "hard.png": "outside"}


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", picture())
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    found = find_pictures(tmp_path / "x.zip")
    assert (names(found), reasons(found)) == (["a.png"], {"link.png": "outside"})


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_links_and_large_files_that_are_no_pictures_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("tunit.data.finding.archives.MAX_MEMBER", 5000)
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        link = zipfile.ZipInfo("README")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("a.png", picture())
            packed.writestr(link, "docs/README")
            packed.writestr("weights", bytes(6000))
            packed.writestr("large.png", bytes(6000))
    else:
        with tarfile.open(path, "w") as archive:
            add_to_tar(archive, "a.png", picture())
            add_to_tar(archive, "README", type=tarfile.SYMTYPE, linkname="docs/README")
            add_to_tar(archive, "weights", bytes(6000))
            add_to_tar(archive, "large.png", bytes(6000))
    found = find_pictures(path)
    assert (names(found), reasons(found)) == (["a.png"], {"large.png": "decompression bomb"})


def encrypt_flag(path: Path, name: str) -> None:
    """Set the "encrypted" flag of a member in both of its headers."""
    data = bytearray(path.read_bytes())
    for signature, flags, start in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            if data[at + start : at + start + len(name)] == name.encode():
                data[at + flags] |= 1
    path.write_bytes(bytes(data))


def test_encrypted_members_are_left_out(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture(), "b.png": picture(1), "notes": b"words"})
    encrypt_flag(path, "b.png")
    encrypt_flag(path, "notes")
    found = find_pictures(path)
    assert (names(found), reasons(found)) == (["a.png"], {"b.png": "encrypted"})
    encrypt_flag(path, "a.png")
    with pytest.raises(DataError, match="2 encrypted"):
        find_pictures(path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_several_members_with_one_name_is_used(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    old, new = picture(1), picture(2)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", old)
            archive.writestr("a.png", new)
    else:
        with tarfile.open(path, "w:" + kind.partition(".")[2]) as tar:  # type: ignore[call-overload]
            add_to_tar(tar, "a.png", old)
            add_to_tar(tar, "./a.png", new)
    found = find_pictures(path)
    assert contents(found) == {"a.png": new}
    assert reasons(found) == {"a.png": "duplicate"}


def test_a_zip_member_of_huge_declared_size_is_a_bomb(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture(), "b.png": picture(1)})
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", MAX_BYTES + 1)
    path.write_bytes(bytes(data))
    found = find_pictures(path)
    assert (names(found), reasons(found)) == (["a.png"], {"b.png": "decompression bomb"})


def test_a_zip_member_is_read_only_up_to_its_declared_size(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": bytes(50_000_000)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(signature)
        data[at + offset : at + offset + 4] = struct.pack("<I", 1000)
    path.write_bytes(bytes(data))
    item = find_pictures(path).pictures[0]
    with pytest.raises(PictureError, match="damaged"):  # 1,000 bytes, whose checksum is wrong
        item.read()
    close_archives()


def test_a_tar_member_of_huge_declared_size_is_a_bomb(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"a.png": picture()})
    header = tarfile.TarInfo("huge.png")
    header.size = MAX_BYTES + 1
    path.write_bytes(path.read_bytes().rstrip(b"\0").ljust(4096, b"\0")[:4096])
    good = picture()
    block = tarfile.TarInfo("a.png")
    block.size = len(good)
    path.write_bytes(block.tobuf() + good + bytes(-len(good) % 512) + header.tobuf() + b"only this much")
    found = find_pictures(path)
    assert names(found) == ["a.png"]
    assert reasons(found) == {"huge.png": "decompression bomb", "x.tar": "truncated"}


def test_a_tar_header_of_absurd_size_is_not_read_into_memory(tmp_path: Path) -> None:
    good, block = picture(), tarfile.TarInfo("a.png")
    block.size = len(good)
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    path = tmp_path / "x.tar"
    path.write_bytes(block.tobuf() + good + bytes(-len(good) % 512) + long_name.tobuf() + bytes(2048))
    found = find_pictures(path)
    assert (names(found), reasons(found)) == (["a.png"], {"x.tar": "truncated"})
    assert "a header of 4,294,967,296 bytes" in found.left_out[0].detail


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_the_complete_members_of_a_truncated_tar_are_read(tmp_path: Path, kind: str) -> None:
    path = make_archive(tmp_path, kind, {f"{i}.png": picture(i, side=200) for i in range(16)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    found = find_pictures(path)
    assert reasons(found) == {path.name: "truncated"}
    assert names(found)[:3] == ["0.png", "1.png", "2.png"]
    assert found.pictures[0].read() == picture(0, side=200)
    if kind == "tar":  # the last header is complete, but its data are missing
        assert "5.png" in names(found)
        with pytest.raises(PictureError, match="truncated"):
            next(item for item in found.pictures if item.name == names_by_number(found)[-1]).read()
    close_archives()


def test_a_zip_without_its_end_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture()})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="is damaged"):
        find_pictures(path)


def test_other_members_of_a_damaged_zip_are_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture(1, side=100), "b.png": picture(2)})
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(bytes(data))
    first, second = find_pictures(path).pictures
    with pytest.raises(PictureError, match="unreadable"):
        first.read()
    assert second.read() == picture(2)
    close_archives()


def test_a_replaced_archive_is_opened_again(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture(1)})
    assert find_pictures(path).pictures[0].read() == picture(1)
    make_zip(tmp_path / "new", {"a.png": picture(2)}).replace(path)
    assert find_pictures(path).pictures[0].read() == picture(2)
    close_archives()


def test_the_fingerprint_of_an_archive_does_not_list_its_members(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": picture(1)})
    before = find_pictures(path).fingerprint
    assert find_pictures(path).fingerprint == before
    os.utime(path, ns=(1, 1))
    assert find_pictures(path).fingerprint != before


@pytest.mark.parametrize("name", ["x.7z", "x.rar", "x.tar.gz", "x.tar.zst", "x.zip"])
def test_a_file_that_is_an_archive_only_by_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    with pytest.raises(DataError, match="give a zip or tar archive"):
        find_pictures(tmp_path / name)


# Lists and tables


def test_a_list_of_paths(tmp_path: Path) -> None:
    content = fill(tmp_path, "l/a.png", "l/sub/b c.png", "other/d.png", "l/ü.png")
    text = "\ufeff# a remark\r\n\r\n a.png \nsub\\b c.png\n../other/d.png\n"
    text += f"{tmp_path}/l/ü.png\nmissing.png\nsub\n./a.png\n"
    (tmp_path / "l/list.txt").write_text(text, encoding="utf-8", newline="")
    found = find_pictures(tmp_path / "l/list.txt")
    assert contents(found) == {
        "a.png": content["l/a.png"],
        "sub/b c.png": content["l/sub/b c.png"],
        "other/d.png": content["other/d.png"],
        "ü.png": content["l/ü.png"],
    }
    assert reasons(found) == {"missing.png": "unreadable", "sub": "unreadable", "a.png": "duplicate"}


def test_names_of_a_list_are_unique_and_stay_inside(tmp_path: Path) -> None:
    content = fill(tmp_path, "here/x/a.png", "x/a.png", "x/x/a.png")
    (tmp_path / "here/list.txt").write_text(
        f"x/a.png\n../x/a.png\n../../{tmp_path.name}/../{tmp_path.name}/x/x/a.png\n"
    )
    found = find_pictures(tmp_path / "here/list.txt")
    assert len(set(names(found))) == 3
    assert {"x/a.png", "x/a~2.png"} < set(names(found))
    assert sorted(contents(found).values()) == sorted(content.values())
    assert not any(".." in name or name.startswith("/") for name in names(found))


def test_a_null_character_in_a_list_costs_one_line(tmp_path: Path) -> None:
    content = fill(tmp_path, "a.png")
    (tmp_path / "list.txt").write_bytes(b"a.png\n" + b"#" * 5000 + b"\nb\0.png\n")
    found = find_pictures(tmp_path / "list.txt")
    assert contents(found) == content
    assert list(reasons(found).values()) == ["unreadable"]


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    fill(tmp_path, "a.png", "b, c.png", "sub/d.png")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    return tmp_path / "t.csv"


def test_a_table_with_labels_quotes_bom_and_crlf(tmp_path: Path) -> None:
    text = '\ufeffnumber,Picture,label\r\n1,a.png,cat\r\n2,"b, c.png","dog, ""big"""\r\n3,sub/d.png,\r\n'
    path = table(tmp_path, text)
    expected = {"a.png": "cat", "b, c.png": 'dog, "big"', "sub/d.png": None}
    assert labels(find_pictures(path, labels="csv")) == expected
    assert set(labels(find_pictures(path)).values()) == {None}
    assert labels(find_pictures(path, labels="folders")) == {
        "a.png": None,
        "b, c.png": None,
        "sub/d.png": "sub",
    }


@pytest.mark.parametrize("column", ["picture", "path", "file", "filename", "image"])
def test_the_picture_column_is_found_by_name(tmp_path: Path, column: str) -> None:
    assert labels(find_pictures(table(tmp_path, f"label,{column}\nx,a.png\n"), labels="csv")) == {
        "a.png": "x"
    }


def test_otherwise_the_first_column_holds_the_pictures(tmp_path: Path) -> None:
    path = table(tmp_path, "photo,kind\na.png,x\nsub/d.png\n\n")
    assert labels(find_pictures(path, labels="csv", label_column="Kind")) == {"a.png": "x", "sub/d.png": None}


def test_a_table_without_a_header(tmp_path: Path) -> None:
    path = table(tmp_path, "a.png,x\nsub/d.png,y\n")
    assert names(find_pictures(path)) == ["a.png", "sub/d.png"]
    with pytest.raises(DataError, match="no header line"):
        find_pictures(path, labels="csv")


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_from_a_spreadsheet(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = f'file{delimiter}label\n"b, c.png"{delimiter}größer\n'
    assert labels(find_pictures(table(tmp_path, text, encoding), labels="csv")) == {"b, c.png": "größer"}


def test_a_missing_label_column_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label': name one of its columns \('file', 'species'\)"):
        find_pictures(table(tmp_path, "file,species\na.png,cat\n"), labels="csv")


def test_one_picture_with_two_labels_is_reported(tmp_path: Path) -> None:
    found = find_pictures(table(tmp_path, "file,label\na.png,cat\na.png,dog\n"), labels="csv")
    assert labels(found) == {"a.png": "cat"}
    assert found.left_out == [LeftOut("a.png", "duplicate", "listed twice, first as 'cat' and then as 'dog'")]


def test_a_picture_that_is_listed_without_and_with_a_label_has_the_label(tmp_path: Path) -> None:
    whole = (tmp_path / "a.png").as_posix()
    rows = f"file,label\na.png,\n{whole},cat\n./a.png,\nsub/d.png,dog\nsub/d.png,\n"
    found = find_pictures(table(tmp_path, rows), labels="csv")
    assert labels(found) == {"a.png": "cat", "sub/d.png": "dog"}
    details = [(item.name, item.detail) for item in found.left_out]
    assert details == [("a.png", "listed twice")] * 2 + [("sub/d.png", "listed twice")]


def test_the_fingerprint_of_a_list_covers_the_list_and_its_files(tmp_path: Path) -> None:
    path = table(tmp_path, "file,label\na.png,cat\n")
    seen = [find_pictures(path, labels="csv").fingerprint]
    path.write_text("file,label\na.png,dog\n")
    seen.append(find_pictures(path, labels="csv").fingerprint)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    seen.append(find_pictures(path, labels="csv").fingerprint)
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", ""),
        ("x.csv", "\n\n"),
        ("x.csv", "file,label\n"),
        ("x.csv", "# nothing\n"),
        ("x.txt", ""),
        ("x.txt", "# nothing\n"),
    ],
)
def test_an_empty_list_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(
        DataError, match=rf"{name} names no picture: write paths of JPEG.* into it, one in each"
    ):
        find_pictures(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), [("x.csv", "file\ngone.png\n"), ("x.txt", "file,label\n")])
def test_a_list_of_missing_files_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"holds no picture that can be used \(1 left out.*: name JPEG"):
        find_pictures(tmp_path / name)


# Archives inside folders and archives, and files that tunit wrote there


def test_archives_beside_pictures_are_reported_and_not_read(tmp_path: Path) -> None:
    """The pictures were probably unpacked from them."""
    content = fill(tmp_path, "a.png", "sub/b.png")
    make_tar(tmp_path / "set.tar", {"c.png": picture(5)})
    make_zip(tmp_path / "sub/more.zip", {"d.png": picture(6)})
    (tmp_path / "old.rar").write_bytes(b"Rar!\x1a\x07\x00" + bytes(50))
    (tmp_path / "words.zip").write_bytes(b"words")
    found = find_pictures(tmp_path)
    assert contents(found) == content
    assert found.notes == (
        "3 archives (old.rar, set.tar and 1 more) in the folder were not read: give each by itself, or unpack them",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_holds_only_archives_is_read(tmp_path: Path, kind: str) -> None:
    """Data sets are often published as several archives. An archive is not a class."""
    shards = [
        {f"{label}/{i}.png": picture(10 * shard + i) for i in range(3)} for shard, label in enumerate("aba")
    ]
    for number, content in enumerate(shards):
        make_archive(tmp_path, kind, content).rename(tmp_path / f"s-{number}.{kind}")
    found = find_pictures(tmp_path, labels="folders")
    expected = {
        f"s-{n}.{kind}/{name}": data for n, shard in enumerate(shards) for name, data in shard.items()
    }
    assert contents(found) == expected
    assert labels(found) == {name: name.split("/")[1] for name in expected}
    before = found.fingerprint
    os.utime(tmp_path / f"s-1.{kind}", ns=(1, 1))
    assert find_pictures(tmp_path).fingerprint != before
    close_archives()


def test_classes_may_be_archives(tmp_path: Path) -> None:
    make_zip(tmp_path / "cat.zip", {"1.png": picture(1)})
    make_tar(tmp_path / "dog.tar.gz", {"1.png": picture(2)}, "w:gz")
    found = find_pictures(tmp_path, labels="folders")
    assert labels(found) == {"cat.zip/1.png": "cat", "dog.tar.gz/1.png": "dog"}
    close_archives()


def test_a_damaged_archive_among_archives_is_reported(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"1.png": picture(1)})
    whole = make_zip(tmp_path / "b.zip", {"1.png": picture(2)}).read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[:-30])
    found = find_pictures(tmp_path)
    assert (names(found), reasons(found)) == (["a.zip/1.png"], {"b.zip": "unreadable"})


@pytest.mark.parametrize("kind", KINDS)
def test_archives_inside_an_archive_are_reported(tmp_path: Path, kind: str) -> None:
    inner = make_zip(tmp_path / "i", {"x.png": picture()}).read_bytes()
    content = {
        "a.png": picture(1),
        "in/more.zip": inner,
        "s.tar.gz": b"x",
        ".hidden.zip": inner,
        "l.csv.gz": b"x",
    }
    found = find_pictures(make_archive(tmp_path, kind, content))
    assert (names(found), found.left_out) == (["a.png"], [])
    assert found.notes == (
        "2 archives (in/more.zip, s.tar.gz) inside the archive were not read: unpack everything into a folder",
    )
    del content["a.png"]
    with pytest.raises(DataError, match=r"archives .in/more.zip, s.tar.gz. inside the archive were not read"):
        find_pictures(make_archive(tmp_path, kind, content))


ALONE = [(".tunit-results",), (".tunit-demo",), ("config.toml", "run.json")]
BESIDE = {  # files that say that a folder holds results, and other results that it may hold
    (".tunit-cache",): (),
    ("pictures.npy", "index.json"): ("shard-000000.tar",),
    ("model.safetensors", "model.json"): ("domains/domain_0.webp",),
    ("domains.csv", "overview.png"): ("domain_0.png", "domain_11.png"),
}


@pytest.mark.parametrize("marks", [*ALONE, *BESIDE])
def test_results_of_tunit_inside_a_folder_are_left_out(tmp_path: Path, marks: tuple[str, ...]) -> None:
    content = fill(tmp_path, "a.png", "b/c.png")
    others = BESIDE.get(marks, ("domain_0.png", "samples/step_1.png"))
    fill(tmp_path, "deep/empty.png", *(f"deep/results/{name}" for name in others))
    (tmp_path / "deep/empty.png").unlink()
    before = find_pictures(tmp_path).fingerprint
    (tmp_path / "deep/results").mkdir(exist_ok=True)
    for mark in marks:
        (tmp_path / "deep/results" / mark).touch()
    found = find_pictures(tmp_path)
    assert contents(found) == content
    assert found.notes == (
        "1 folder (deep/results) of tunit's own results was left out: give it by itself to use it",
    )
    assert (found.fingerprint != before) == any(name.endswith(("png", "webp")) for name in others)
    if "domain_0.png" in others:  # the user named this folder
        assert "domain_0.png" in names(find_pictures(tmp_path / "deep/results"))


@pytest.mark.parametrize("marks", BESIDE)
@pytest.mark.parametrize("mine", ["photo.jpg", "sub/photo.jpg", "domains/photo.jpg", "domain_0.jpg"])
def test_pictures_in_a_folder_into_which_results_were_written_are_found(
    tmp_path: Path, marks: tuple[str, ...], mine: str
) -> None:
    content = fill(tmp_path, "a.png", f"photos/{mine}")
    if not mine.startswith("domains/"):
        fill(tmp_path, *(f"photos/{name}" for name in BESIDE[marks]))
    for mark in marks:
        (tmp_path / "photos" / mark).touch()
    found = find_pictures(tmp_path)
    assert contents(found) == content
    written = "domains.csv" in marks or (BESIDE[marks] and not mine.startswith("domains/"))
    said = ("tunit's own results in 1 folder (photos) were left out, but not the pictures beside them",)
    assert found.notes == (said if written else ())
    given = find_pictures(tmp_path / "photos")  # the same if the folder itself is given
    assert contents(given) == {name[7:]: data for name, data in content.items() if name.startswith("photos/")}
    assert given.notes == (
        tuple(note.replace("(photos)", f"({tmp_path / 'photos'})") for note in said) if written else ()
    )


# Classes from folders


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        ("cat/images/1 dog/images/1", "cat dog"),
        ("data/set/cat/1 data/set/dog/1 data/cover", "cat dog -"),
        ("a/young/1 b/young/1 b/old/1", "a b b"),
        ("train/cat/1 train/dog/1 val/cat/1 test/dog/1", "cat dog cat dog"),
        ("images/Train/cat/1 images/Test/dog/1", "cat dog"),
        ("train/cat/img/1 val/cat/img/1", "cat cat"),
        # pictures of a train (the vehicle), which is not a training set
        ("bus/1 car/1 train/1", "bus car train"),
        ("cat/1 cat/kitten/1", "cat cat"),
        ("cat/images/1 cat/images/2", "cat cat"),
        ("train/1 val/1", "- -"),
        ("1 2", "- -"),
        ("cat/1 dog/1 dog/puppy/1 x", "cat dog dog -"),
        ("train/1 train/cat/1 val/cat/1 val/dog/1", "- cat cat dog"),
    ],
)
def test_classes_are_the_first_folder_level_that_differs(paths: str, classes: str) -> None:
    found, _ = class_labels([f"{path}.png" for path in paths.split()])
    assert found == [None if name == "-" else name for name in classes.split()]


def test_folders_inside_classes_are_reported() -> None:
    assert class_labels(["a/young/1", "b/young/1", "b/old/1"])[1] == [
        "classes are the folders a and b; those inside them (old and young) are ignored: "
        "for other classes give a table with labels"
    ]
    assert class_labels(["a/images/1", "b/photos/1", "b/x/1"])[1] == []
    assert class_labels(["train/1", "val/1"])[1] == [
        "train and val are parts of a set, not classes: no picture has a label"
    ]


# The summary


def test_the_summary_counts_and_gives_examples() -> None:
    left_out = [LeftOut("c.gif", "too small", "4 x 4, at least 16 wanted")]
    left_out += [LeftOut(f"{name}.jpg", "unreadable", "not a picture") for name in "abcde"]
    assert summarise_left_out(left_out) == (
        "6 left out: 5 unreadable (not a picture: a.jpg, b.jpg, c.jpg and 2 more), "
        "1 too small (c.gif: 4 x 4, at least 16 wanted)"
    )
    assert summarise_left_out([]) == "none left out"


def test_the_summary_keeps_every_detail_of_a_reason() -> None:
    left_out = [LeftOut(f"{i}.png", "unreadable", "no such file in /a or /b") for i in range(9)]
    left_out.append(LeftOut("x.png", "unreadable", "not a picture"))
    assert summarise_left_out(left_out) == (
        "10 left out: 9 unreadable (no such file in /a or /b: 0.png, 1.png, 2.png and 6 more), "
        "1 unreadable (x.png: not a picture)"
    )
    many = [LeftOut(f"{i}.png", "truncated", f"{i} of 100 bytes") for i in range(9)]
    assert summarise_left_out(many) == (
        "9 left out: 9 truncated (0.png: 0 of 100 bytes; 1.png: 1 of 100 bytes; 2.png: 2 of 100 bytes; and 6 more)"
    )


def test_the_summary_of_a_very_long_name_is_short() -> None:
    assert len(summarise_left_out([LeftOut("x" * 100_000, "unreadable", "y" * 100_000)])) < 500


@pytest.mark.parametrize("size", [-512, -(2**40), -1024])
def test_a_tar_member_of_negative_size_does_not_loop(tmp_path: Path, size: int) -> None:
    good, block = picture(), tarfile.TarInfo("a.png")
    block.size = len(good)
    bad = bytearray(tarfile.TarInfo("b.png").tobuf(tarfile.GNU_FORMAT))
    bad[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
    bad[148:156] = b" " * 8
    bad[148:156] = b"%06o\0 " % sum(bad)
    path = tmp_path / "x.tar"
    path.write_bytes(block.tobuf() + good + bytes(-len(good) % 512) + bytes(bad) + bytes(1024))
    found = find_pictures(path)
    assert (names(found), reasons(found)) == (["a.png"], {"x.tar": "truncated"})
    assert "negative size" in found.left_out[0].detail


def test_an_xz_archive_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        header = tarfile.TarInfo("a.png")
        header.size = len(picture())
        tar.addfile(header, io.BytesIO(picture()))
    packed = (tmp_path / "x.tar").read_bytes()
    for dictionary, is_read in ((1 << 26, True), (1 << 28, False)):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": dictionary}]
        path = tmp_path / f"{dictionary}.tar.xz"
        # Two streams, one after the other, as xz itself writes them: the reader continues from the first to the
        # second.
        path.write_bytes(
            lzma.compress(packed[:700], filters=filters) + lzma.compress(packed[700:], filters=filters)
        )
        if is_read:
            found = find_pictures(path)
            assert found.pictures[0].read() == picture()
            assert found.pictures[0].read() == picture()  # back to the beginning
        else:
            with pytest.raises(DataError, match="damaged or of another kind"):
                find_pictures(path)


def test_a_pack_is_named_as_one(tmp_path: Path) -> None:
    """`tunit prepare FOLDER --out PACK`, then `tunit train PACK`."""
    for name in ("pictures.npy", "index.json"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"is a pack of `tunit prepare`.*give the folder of the pictures themselves"
    ):
        find_pictures(tmp_path)
