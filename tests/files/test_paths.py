"""Paths as people and other programs write them."""

from pathlib import Path

import pytest
from PIL import Image

from tunit.data.finding.find import find_pictures
from tunit.data.finding.lists import SearchPath
from tunit.files.paths import path_or_url


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
