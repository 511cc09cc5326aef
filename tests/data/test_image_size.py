import tarfile

import pytest

from tiny_run import write_pictures
from tunit.data.packing import image_size
from tunit.data.packing.image_size import choose_image_size


@pytest.mark.parametrize(
    ("side", "size"), [(20, 32), (32, 32), (63, 32), (64, 64), (127, 64), (128, 128), (400, 128)]
)
def test_the_largest_power_of_two_not_above_the_median_side(tmp_path, side, size):
    assert choose_image_size(write_pictures(tmp_path / "p", 5, side)) == size


def test_a_broken_picture_is_not_counted(tmp_path):
    folder = write_pictures(tmp_path / "p", 3, 64)
    (folder / "a.jpg").write_text("no picture")
    assert choose_image_size(folder) == 64


def test_an_archive_is_read_from_its_start_to_its_end(tmp_path, monkeypatch):
    pictures = sorted(write_pictures(tmp_path / "p", 12, 64).iterdir(), reverse=True)
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as archive:
        for path in pictures:
            archive.add(path, path.name)
    asked = []

    def picture_size(picture):
        asked.append(picture)
        return 64, 64

    monkeypatch.setattr(image_size, "picture_size", picture_size)
    assert choose_image_size(tmp_path / "p.tar.gz") == 64
    assert [picture.name for picture in asked] == [path.name for path in pictures]


def test_at_most_so_many_pictures_are_looked_at_from_the_whole_set(tmp_path, monkeypatch):
    folder, asked = write_pictures(tmp_path / "p", 9, 64), []
    monkeypatch.setattr(image_size, "picture_size", lambda picture: asked.append(picture.name) or (64, 64))
    monkeypatch.setattr(image_size, "LOOK_AT", 5)
    assert choose_image_size(folder) == 64
    assert asked == ["000.png", "002.png", "004.png", "006.png", "008.png"]
