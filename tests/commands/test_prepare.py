"""`tunit prepare`: where a pack goes if no place is given."""

import json

import pytest

from tiny_model import write
from tunit.cli import main


@pytest.mark.parametrize("shards", [[], ["--shards", "2"]])
def test_two_folders_of_one_name_do_not_share_a_pack(tmp_path, monkeypatch, capsys, shards):
    for seed in range(6):
        write(tmp_path / ("A" if seed % 2 else "B") / "photos" / f"{seed}.png", seed)
    monkeypatch.chdir(tmp_path)
    how = ["--image-size", "32", *shards]
    assert main(["prepare", "A/photos", *how]) == 0
    index = tmp_path / "packed" / "photos" / "index.json"
    names = json.loads(index.read_text())["names"]
    assert main(["prepare", "B/photos", *how]) == 2
    said = capsys.readouterr().err
    assert f"packed/photos is the pack of {tmp_path / 'A' / 'photos'}: give another place as --out" in said
    assert json.loads(index.read_text())["names"] == names
    assert main(["prepare", "B/photos", "--out", "packed/other", *how]) == 0
    assert not (tmp_path / "packed" / "other" / "source.txt").exists()
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "A")
    (tmp_path / "A" / "packed").symlink_to(tmp_path / "packed")
    assert main(["prepare", "photos", *how]) == 0
    assert "unchanged, reused" in capsys.readouterr().out


@pytest.mark.parametrize("shards", [[], ["--shards", "2"]])
def test_the_pack_of_a_folder_that_was_moved_is_reused(tmp_path, monkeypatch, capsys, shards):
    for seed in range(3):
        write(tmp_path / "A" / "photos" / f"{seed}.png", seed)
    monkeypatch.chdir(tmp_path)
    how = ["--image-size", "32", *shards]
    assert main(["prepare", "A/photos", *how]) == 0
    (tmp_path / "A").rename(tmp_path / "C")
    capsys.readouterr()
    assert main(["prepare", "C/photos", *how]) == 0
    assert "unchanged, reused" in capsys.readouterr().out
    noted = tmp_path / "packed" / "photos" / "source.txt"
    assert noted.read_text() == str(tmp_path / "C" / "photos")
    (tmp_path / "C").rename(tmp_path / "D")
    assert main(["prepare", "D/photos", "--image-size", "64", *shards]) == 2
    assert f"is the pack of {tmp_path / 'C' / 'photos'}" in capsys.readouterr().err


def test_a_pack_of_an_older_version_is_used(tmp_path, monkeypatch, capsys):
    for seed in range(3):
        write(tmp_path / "photos" / f"{seed}.png", seed)
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "photos", "--image-size", "32"]
    assert main(words) == 0
    (tmp_path / "packed" / "photos" / "source.txt").unlink(missing_ok=True)
    assert main(words) == 0
    assert "unchanged, reused" in capsys.readouterr().out
