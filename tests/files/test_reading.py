"""Small files of tunit and of its users."""

import pytest

from tunit.files.reading import UnreadableError, read_table


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffpicture,label\r\na.png,cat\r\nb.png,dog\r\n",
        "picture,label\na.png,cat\nb.png,dog\n\n",
        "\npicture,label\n\na.png,cat\nb.png,dog\n\n\n",
    ],
)
def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "t.csv", ("label", "picture"), 1000) == [("cat", "a.png"), ("dog", "b.png")]


def test_rows_are_counted_with_the_empty_ones(tmp_path):
    (tmp_path / "t.csv").write_text("picture,label\n\na.png,cat\nb.png\n")
    with pytest.raises(UnreadableError, match="its row 4 has 1 cells of 2"):
        read_table(tmp_path / "t.csv", ("picture",), 1000)
