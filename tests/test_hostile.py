"""Bad input, in the short form of `make soak`: damage with random seeds; tables and command lines from hypothesis.

Each bug that was found this way has its own test here.
"""

import base64
import csv
import dataclasses
import io
import json
import shlex
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soak import hostile
from soak.bad_input import damaged
from soak.guarded import BreachError, examples, guarded, in_time
from soak.hostile import TARGETS, Hostile, some_pictures
from soak.ledger import Ledger
from tiny_run import flags
from tunit.cli import COMMANDS, build_parser
from tunit.commands.setting_arguments import settings_of
from tunit.config import read_config
from tunit.data.finding.find import find_pictures
from tunit.errors import LONGEST, DataError, TunitError

pytestmark = pytest.mark.usefixtures("one_thread")
SECONDS = 0.6  # for each type of file
FEW = examples(40)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_give_values_or_one_sentence(name, tmp_path, capfd):
    (tmp_path / "work").mkdir()
    tried = Hostile(name, tmp_path / "work", tmp_path / "kept")
    tried.whole()
    assert tried.run(0, SECONDS, 400) > 3


def test_the_guard_notices_forbidden_effects(tmp_path):
    (tmp_path / "work").mkdir()
    for forbidden in (
        lambda: (tmp_path / "outside").write_text("x"),
        lambda: (tmp_path / "work").rename(tmp_path / "elsewhere"),
        lambda: __import__("os").system("true"),
        lambda: __import__("subprocess").run(["true"]),
    ):
        with pytest.raises(BreachError), guarded(tmp_path / "work"):
            forbidden()
    with guarded(tmp_path / "work"):
        (tmp_path / "work" / "inside").write_text("x")
    with pytest.raises(BreachError, match="it had not ended"), in_time(0.05):
        while True:
            pass


CELLS = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ["1.png", "../1.png", "/etc/passwd", "label", "picture", "", "~", "a" * 300, "=1+1", "\0", "\ud800"]
)


@FEW
@given(
    st.lists(st.lists(CELLS, max_size=5), max_size=8),
    st.sampled_from(",;\t| "),
    st.sampled_from([".csv", ".txt"]),
)
@example([["0\xa0\\"]], ",", ".csv")  # the message quotes a space that is not the usual one
@example([["a\u200d\u3000.png"]], ",", ".txt")
def test_any_table_gives_pictures_or_one_sentence(tmp_path, rows, delimiter, suffix):
    (tmp_path / "1.png").touch()
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path = tmp_path / f"table{suffix}"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    for labels in ("none", "csv"):
        try:
            found = find_pictures(path, labels=labels)
        except TunitError as error:
            assert str(error).isprintable()
        else:
            assert len({picture.name for picture in found.pictures}) == len(found.pictures)


WORDS = (
    *COMMANDS, *shlex.split("--out --steps --domains --preset --resume --seed --fit --size --device --help"),
    "--", "-", "", "0", "-1", "9" * 400, "nan", "1e400", "auto", "\udcff", "a\nb", "=", "--steps=", "--no", "x" * 300,
    "--mutual-information-weight", "--config", "paper", "/nowhere", "~nobody", "--threads", "3.5", "[1]", "--labels",
)  # fmt: skip


@pytest.fixture(scope="module")
def parser():
    return build_parser()


@FEW
@given(
    st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=6),
    st.sampled_from(["train", "prepare", *COMMANDS]),
)
def test_any_command_line_is_accepted_or_refused_with_one_sentence(parser, capsys, words, command):
    known = flags() if command == "train" and len(words) % 2 else []
    try:
        args = parser.parse_args([command, *known, *words])
        if hasattr(args, "preset"):
            read_config(args.preset or "default").with_overrides(settings_of(args))
    except SystemExit as ended:
        assert ended.code in (0, 2)
    except TunitError as error:
        assert str(error).isprintable()


def test_a_missing_column_is_reported_without_repeating_a_long_header(tmp_path):
    (tmp_path / "1.png").touch()
    (tmp_path / "a.csv").write_text("picture," + ",".join(["x" * 5000] * 50) + "\n1.png" + "," * 50 + "\n")
    with pytest.raises(DataError, match=r"has no column 'label'.* and 31 more\)") as refused:
        find_pictures(tmp_path / "a.csv", labels="csv")
    assert len(str(refused.value)) < LONGEST


def test_the_number_of_a_column_is_not_shortened(tmp_path):
    (tmp_path / "1.png").touch()
    (tmp_path / "a.csv").write_text("picture,label\n1.png,a\n")
    with pytest.raises(DataError, match="has no column '0000000015'"):
        find_pictures(tmp_path / "a.csv", picture_column="0000000015")


def test_a_zip_member_without_a_name_is_passed_over(tmp_path):
    """Found by atheris: ZipInfo.is_dir of Python 3.11 fails for an empty name."""
    picture, nameless = some_pictures()[0], zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(nameless, picture)
        archive.writestr("1.png", picture)
    assert [found.name for found in find_pictures(tmp_path / "a.zip").pictures] == ["1.png"]


def test_a_failing_input_is_kept_with_the_seed_and_named(tmp_path, monkeypatch):
    target = dataclasses.replace(TARGETS["TOML"], read=lambda path: 1 / 0)
    monkeypatch.setitem(hostile.TARGETS, "TOML", target)
    (tmp_path / "work").mkdir()
    out = tmp_path / "soak.json"
    ledger = Ledger(out)
    held = ledger.hold("a", "b", lambda: damaged("TOML", tmp_path / "work", tmp_path / "soak.inputs", 7, 9))
    row = json.loads(out.read_text())["promises"][0]
    (kept,) = row["inputs kept"]
    assert not held and "ZeroDivisionError" in row["why"] and kept["file"] in row["why"]
    assert Path(kept["file"]).read_bytes() == base64.b64decode(kept["base64"]) in target.examples()


def test_an_error_message_has_limited_length():
    text = str(DataError(f"{'x' * 10**6} is too long: take a shorter one"))
    assert len(text) < LONGEST
    assert text.startswith("xxx")
    assert text.endswith(": take a shorter one")
