"""Lists of pictures: a text file with one path per line, or a CSV table with a picture and a label column."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from tunit.errors import DataError

PICTURE_COLUMNS = ("picture", "path", "file", "filename", "image")


@dataclass(frozen=True)
class Row:
    """One line of a list: a path as written, and its label."""

    path: str
    label: str | None = None


def read_list(path: Path) -> list[Row]:
    """The paths of a text file, one per line; blank lines and lines that begin with # are skipped."""
    lines = (line.strip() for line in re.split(r"[\r\n]+", _text(path)))
    return [Row(line) for line in lines if line and not line.startswith("#")]


def read_table(path: Path, label_column: str | None) -> list[Row]:
    """The rows of a CSV file. Its delimiter may be a comma, a semicolon or a tab.

    The picture column is the first of `PICTURE_COLUMNS` that the header names, else the first column. A
    file whose first cell is itself an existing picture has no header.

    label_column: its name, whatever the case; None asks for no labels. An empty cell is no label.
    Raises DataError where the table cannot be read or lacks the column.
    """
    text = _text(path)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=_delimiter(text)) if any(row)]
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV table ({error}): save it as CSV again") from None
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0]]
    named = [header.index(name) for name in PICTURE_COLUMNS if name in header]
    picture = named[0] if named else 0
    if named or not (path.parent / rows[0][0].strip()).is_file():
        rows = rows[1:]
    else:
        header = []
    label = None if label_column is None else _label_index(path, header, label_column)
    return [Row(_cell(row, picture) or "", _cell(row, label)) for row in rows if _cell(row, picture)]


def _label_index(path: Path, header: list[str], label_column: str) -> int:
    if label_column.strip().lower() not in header:
        known = ", ".join(map(repr, header)) if header else "none, for it has no header line"
        raise DataError(f"{path} has no column {label_column!r}: name one of its columns ({known})")
    return header.index(label_column.strip().lower())


def _cell(row: list[str], index: int | None) -> str | None:
    return row[index].strip() or None if index is not None and index < len(row) else None


def _delimiter(text: str) -> str:
    """The delimiter of the header line: the one that makes a known column name appear, else the comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in ",;\t":
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if len(cells) > 1 and any(cell.strip().lower() in PICTURE_COLUMNS for cell in cells):
            return delimiter
    return "\t" if "\t" in first and "," not in first else ","


def _text(path: Path) -> str:
    """The text of a list: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Bytes that are not UTF-8 are kept as Python keeps them in file names, so that they find such files.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is neither a picture, an archive nor a text: give one of these, or a folder")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")
