"""Paths as people and other programs write them."""

import tempfile
from pathlib import Path

import pytest
from PIL import Image

from tunit.data.finding.find import find_pictures
from tunit.data.finding.lists import SearchPath
from tunit.data.finding.places import local_scratch
from tunit.errors import ConfigError
from tunit.files.paths import cache_folder, expand_home, path_or_url


@pytest.mark.parametrize("name", ["my set", "Bären", "100%", "a#b", "plain", "b\udcffd"])
@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_url_is_its_path(name, host):
    """The oracle is pathlib, which writes such URLs, as file managers do."""
    path = Path("/data") / name
    assert path_or_url(path.as_uri().replace("file://", f"file://{host}")) == path


def test_other_texts_are_not_decoded():
    assert path_or_url("/data/my%20set") == Path("/data/my%20set")
    assert path_or_url("s3://bucket/my%20set") == "s3://bucket/my%20set"
    assert path_or_url("FILE:///data") == Path("/data")


def test_a_list_may_hold_file_urls(tmp_path):
    files = [tmp_path / name for name in ("my cat.png", "Bär.png", "100%25.png")]
    for number, file in enumerate(files):
        Image.new("RGB", (16, 16), (90 * number, 0, 0)).save(file)
    urls = [files[0].as_uri(), files[1].as_uri().replace("file://", "file://localhost"), f"file://{files[2]}"]
    (tmp_path / "list.txt").write_text("\n".join(urls), "utf-8")
    found = find_pictures(tmp_path / "list.txt")
    assert found.left_out == []
    assert len(found.pictures) == 3
    place = SearchPath.of(tmp_path / "list.txt").find(urls[2])
    assert place is not None
    assert place[0] == files[2]


def test_the_cache_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNIT_CACHE", "~/tc")
    assert cache_folder() == tmp_path / "tc"


def test_a_user_without_a_home_folder(tmp_path, monkeypatch):
    """As of a container that runs under a number."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TUNIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="has no home folder: set TUNIT_CACHE"):
        cache_folder()
    assert local_scratch() == tmp_path


def test_a_null_character_in_the_name_of_a_user():
    assert expand_home("~a\0b") == Path("~a\0b")
