"""`tunit domains --leave-out-outliers`: the list of pictures for the next training."""

import csv
import shutil

import numpy as np
import pytest

from tunit.cli import main
from tunit.clustering import outliers
from tunit.data.finding.find import find_pictures

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif("sys.platform == 'win32'", reason="names cannot have line breaks"),
]


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "c\rd/a.png", "a.png "])
def test_a_path_that_no_line_can_hold_is_left_out_and_counted(run, pictures, tmp_path, capsys, name):
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.move(next((folder / "even").iterdir()), folder / name)
    out = ["--out", str(tmp_path / "out"), "--leave-out-outliers", "1"]
    assert main(["domains", str(run), str(folder), *out]) == 0
    listed = find_pictures(tmp_path / "out" / "kept.txt")
    assert listed.left_out == []
    said = capsys.readouterr()
    below = int(said.out.split(" of 28 pictures have an outlier score below")[0].split()[-1])
    assert len(listed.pictures) == below - 1
    assert "kept.txt lacks 1 picture, whose path has line breaks or ends in a space: rename" in said.err


def test_a_folder_that_no_line_can_hold(run, pictures, tmp_path, capsys):
    folder = tmp_path / "a\nb"
    shutil.copytree(pictures, folder)
    assert (
        main(["domains", str(run), str(folder), "--out", str(tmp_path / "out"), "--leave-out-outliers", "1"])
        == 0
    )
    assert (tmp_path / "out" / "kept.txt").read_text() == ""
    said = capsys.readouterr().err
    assert "kept.txt lacks 28 pictures, whose paths have line breaks or end in a space: rename" in said


def test_limits_hold_for_the_scores_that_the_table_shows(run, pictures, tmp_path, capsys, monkeypatch):
    """A score of 0.4996 is 0.500 in the table."""
    monkeypatch.setattr(
        outliers, "unrounded_scores", lambda appearances: np.linspace(0.4996, 0, len(appearances))
    )
    out = tmp_path / "out"
    assert main(["domains", str(run), str(pictures), "--out", str(out), "--leave-out-outliers", "0.5"]) == 0
    with (out / "domains.csv").open(newline="") as file:
        high = [row["picture"] for row in csv.DictReader(file) if float(row["outlier"]) >= 0.5]
    said = capsys.readouterr().out
    assert len(high) == 1 and "1 of 28 pictures may be off-topic" in said
    assert "27 of 28 pictures have an outlier score below 0.5" in said
    assert not any(line.endswith(high[0]) for line in (out / "kept.txt").read_text().splitlines())
