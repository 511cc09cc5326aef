import pytest

from tiny_run import write_pictures
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
