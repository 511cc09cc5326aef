"""Rows that a user adds: a preset file as a further row of a table."""

import json
import tomllib

import pytest

from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.experiments.experiment import CLASSES, NONE, with_rows
from tunit.experiments.paper_tables import TABLE1

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")


def preset(path, text):
    path.write_text(f'base = "paper"\n{text}')
    return path


def smoke_test_of(row, folder):
    """Run only the added row, a few steps on pictures of two classes; returns the exit code."""
    for i, name in enumerate(("apples", "pears")):
        write_pictures(folder / "pictures" / name, seed=i, number=16)
    words = [
        "reproduce",
        "table1",
        "--data",
        str(folder / "pictures"),
        "--out",
        str(folder / "out"),
        "--smoke",
    ]
    return main([*words, "--add", str(row), "--only", row.stem, "--device", "cpu", "--threads", "1"])


def test_a_preset_file_becomes_a_row_with_its_name_and_labels(tmp_path):
    free = preset(tmp_path / "wider.toml", "[networks]\ngenerator_width = 96\n")
    told = preset(tmp_path / "told.toml", '[data]\nlabels = "folders"\n')
    rows = with_rows(TABLE1, [free, told]).rows
    assert rows[:-2] == TABLE1.rows
    assert [(row.name, row.labels) for row in rows[-2:]] == [("wider", NONE), ("told", CLASSES)]
    assert rows[-2].title == "generator_width 96"


def test_a_name_in_use_and_a_file_that_is_not_a_preset_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="table1 has a row 'G' already"):
        with_rows(TABLE1, [preset(tmp_path / "G.toml", "")])
    with pytest.raises(ConfigError, match=r"absent\.toml' is neither a file nor a preset"):
        with_rows(TABLE1, [tmp_path / "absent.toml"])
    (tmp_path / "rootless.toml").write_text("[networks]\ngenerator_width = 96\n")
    with pytest.raises(ConfigError, match="is not based on paper"):
        with_rows(TABLE1, [tmp_path / "rootless.toml"])


def test_names_that_would_share_a_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="table1 has a row 'G' already, whose folder 'g' would share: give"):
        with_rows(TABLE1, [preset(tmp_path / "g.toml", "")])
    with pytest.raises(ConfigError, match="table1 has a row 'a b' already, whose folder 'a-b' would share"):
        with_rows(TABLE1, [preset(tmp_path / f"{name}.toml", "") for name in ("a b", "a-b")])


def test_an_added_row_is_run_and_printed(tmp_path, capsys):
    mine = preset(tmp_path / "mine.toml", "[losses]\nreconstruction_weight = 3.0\n")
    assert smoke_test_of(mine, tmp_path) == 0
    assert "| mine | reconstruction_weight 3.0 |" in capsys.readouterr().out
    outcome = json.loads((tmp_path / "out/table1-smoke/mine/seed-0/outcome.json").read_text())
    assert outcome["figures"]["mFID"] > 0
    config = (tmp_path / "out/table1-smoke/mine/seed-0/run/config.toml").read_text()
    assert "reconstruction_weight = 3.0" in config


def test_a_row_with_few_steps_of_e_alone_keeps_one_in_a_smoke_test(tmp_path):
    """Its number of domains is found after them. 8 steps for the paper's 200,000 leave it less than one."""
    short = tmp_path / "short.toml"
    short.write_text(
        'base = "paper"\n[schedule]\nsteps = 6000\nguide_only_until = 1500\n[networks]\ndomains = 0\n'
    )
    assert smoke_test_of(short, tmp_path) == 0
    run = tmp_path / "out/table1-smoke/short/seed-0/run"
    schedule = tomllib.loads((run / "config.toml").read_text())["schedule"]
    assert 1 <= schedule["guide_only_until"] < schedule["steps"] <= 8


def test_missing_pictures_are_reported_once_and_nothing_is_written(tmp_path, capsys):
    words = [
        "reproduce",
        "table1",
        "--data",
        str(tmp_path / "absent"),
        "--out",
        str(tmp_path / "out"),
        "--smoke",
    ]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "absent does not exist" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
