"""Names may contain anything. Terminals, tables and pages must show them as text, without obeying or failing."""

import ast
import csv
import gc
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tunit
from tiny_run import flags, write_pictures
from tunit import printing
from tunit.cli import main
from tunit.errors import DataError
from tunit.printing import escape, in_sentence, numbered, printable, protect_streams, remark, show_table

ODD = os.fsdecode(b"caf\xe9") + "\x1b[31m\x07\u202egnp.exe"
SOURCE = Path(tunit.__file__).parent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 日本 a\u3000b.png", "größe 日本 a\u3000b.png"),
        ("10.00\u202fAM", "10.00\u202fAM"),  # as in macOS's names of screenshots
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\r\tc\x7f\x85", r"a\nb\r\tc\x7f\x85"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066a\u2069\u200f\ufeff\u2028", r"\u2066a\u2069\u200f\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        (Path("a/\x9b"), r"a/\x9b"),
    ],
)
def test_characters_that_control_a_terminal_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown  # a second call changes nothing
    printable(text).encode("utf-8")  # raises for lone surrogates


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 日本 a.png", "größe 日本 a.png"),
        ("0\xa0\\", "0\\xa0\\"),
        ("10.00\u202fAM", r"10.00\u202fAM"),
        ("a\u3000b", r"a\u3000b"),
        ("a\u200cb\u200d", r"a\u200cb\u200d"),
        (ODD, r"caf\xe9\x1b[31m\x07\u202egnp.exe"),
    ],
)
def test_a_message_shows_characters_that_look_like_a_space_or_like_nothing(text, shown, capsys):
    assert in_sentence(text) == shown == in_sentence(shown)
    assert str(DataError(text)) == shown
    remark(text)
    assert capsys.readouterr().err == f"tunit: {shown}\n"


def test_every_character_in_a_message_is_printable():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert in_sentence(every).isprintable()
    assert all(str(DataError(every[at : at + 1000])).isprintable() for at in range(0, len(every), 1000))


def test_errors_and_pages_accept_any_name():
    assert str(DataError(f"{ODD} is bad")) == r"caf\xe9\x1b[31m\x07\u202egnp.exe is bad"
    assert escape(ODD + "<b>") == r"caf\xe9\x1b[31m\x07\u202egnp.exe&lt;b&gt;"


def test_brackets_in_a_table_are_not_markup(capsys):
    show_table(("[/b]", "n"), [("[bold red]x", 1), (":cat:", 2), (ODD, 3)], title="[link]")
    out = capsys.readouterr().out
    assert all(word in out for word in ("[/b]", "[bold red]x", ":cat:", "[link]", r"\x1b[31m"))
    assert "\x1b" not in out


def test_a_limited_encoding_does_not_stop_a_command(monkeypatch, tmp_path):
    (tmp_path / "größe").mkdir()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["prepare", str(tmp_path / "größe")]) == 2
    stream.flush()
    assert rb"gr\xf6\xdfe" in stream.buffer.getvalue()


def test_only_one_module_prints():
    """Text printed elsewhere would not be made printable."""
    found = []
    for path in SOURCE.rglob("*.py"):
        # __main__.py prints one word before anything is imported
        if path.name in ("printing.py", "__main__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Name) and node.id == "print":
                found.append((path.name, "print", node.lineno))
            if isinstance(node, ast.ImportFrom) and node.module in ("html", "rich.table"):
                found.append((path.name, node.module, node.lineno))
    assert found == []


@pytest.fixture
def odd_folder(tmp_path):
    """Two class folders and a broken file whose names are not valid text."""
    root = tmp_path / os.fsdecode(b"set\xff")
    for label in (os.fsdecode(b"k\xfe"), "[b]"):
        write_pictures(root / label, number=8, seed=len(label))
    (root / os.fsdecode(b"bad\xe9\x1b[31m.png")).write_bytes(b"no picture")
    return root


def test_a_noun_has_an_s_unless_there_is_one_and_thousands_have_a_separator():
    said = {0: "0 steps", 1: "1 step", 999: "999 steps", 1000: "1,000 steps", 2_000_000: "2,000,000 steps"}
    assert {number: numbered(number, "step") for number in said} == said


def test_no_other_code_chooses_between_picture_and_pictures():
    """A sentence with a number of pictures takes `numbered`, so that all have the separator, and 1 has no s."""
    own_plural = re.compile(r"""["']picture["'] if |f"1 picture"|1 picture" if """)
    assert not [str(f) for f in SOURCE.rglob("*.py") if own_plural.search(f.read_text())]


def test_names_that_are_not_valid_text_are_listed(odd_folder, tmp_path, capsys):
    words = ["prepare", str(odd_folder), "--out", str(tmp_path / os.fsdecode(b"pack\xff")), "--list"]
    assert main([*words, "--labels", "folders", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert r"bad\xe9\x1b[31m.png" in out
    assert r"labels: [b] 8, k\xfe 8" in out
    assert "\x1b" not in out


def test_a_run_with_names_that_are_not_valid_text(odd_folder, tmp_path, capsys):
    """Trained, compared when resuming, evaluated and reported; the folder has such a name too."""
    run = str(tmp_path / os.fsdecode(b"run\xff[red]"))
    words = ["train", str(odd_folder), "--out", run, "--labels", "folders", *flags(steps=4), "--quiet"]
    assert main(words) == 0
    with (Path(run) / "pictures.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert labels == {os.fsdecode(b"k\xfe"), "[b]"}
    assert main(["train", "--resume", run, "--steps", "5", "--quiet"]) == 0
    assert main(["evaluate", run, str(odd_folder), "--sources", "2"]) == 0
    out = capsys.readouterr().out
    assert "[b]" in out
    assert r"k\xfe" in out
    assert main(["report", run]) == 0
    page = (Path(run) / "report.html").read_bytes().decode("utf-8")  # raises an error if it is not UTF-8
    assert r"k\xfe" in page


def test_a_stream_without_other_references_stays_open(tmp_path, monkeypatch):
    """A program may set sys.stdout to its own file and keep no other reference to it."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # which is not changed
    monkeypatch.setattr(sys, "stdout", (tmp_path / "out").open("w"))
    protect_streams()
    gc.collect()
    print("said")
    sys.stdout.flush()
    assert (tmp_path / "out").read_text() == "said\n"
    printing._replaced.pop().close()


def test_a_command_is_quoted_for_the_shell(tmp_path: Path) -> None:
    names = ["train", "--resume", tmp_path / "my run", "it's $HOME", "plain", "*"]
    shell = ["sh", "-c", f"tunit() {{ printf '%s\\0' \"$@\"; }}; {printing.command(*names)}"]
    assert subprocess.run(shell, capture_output=True, check=True, text=True).stdout.split("\0")[:-1] == [
        str(name) for name in names
    ]


def test_no_command_contains_an_unquoted_path():
    unquoted = re.compile(
        r"tunit [a-z][A-Za-z -]*(\{[^}]*\}[A-Za-z -]*)*$"
    )  # a command up to a value in an f-string
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                for before, value in zip(node.values, node.values[1:], strict=False):
                    if isinstance(before, ast.Constant) and isinstance(value, ast.FormattedValue):
                        text = str(before.value).rpartition("`")
                        if text[1] and unquoted.match(text[2]):
                            found.append(f"{path.name}:{value.lineno}")
    assert not found
