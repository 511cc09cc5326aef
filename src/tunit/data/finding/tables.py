"""Read tables of pictures: find the delimiter, the header, and the column that holds the pictures' paths.

A CSV file itself does not tell these, so they are found by checking which cells are paths of existing files.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunit.data.finding.lists import Listing, Row, SearchPath, as_text, read_list_text
from tunit.data.finding.naming import PICTURE_SUFFIXES, suffix_of
from tunit.data.finding.spread import stride
from tunit.errors import DataError
from tunit.printing import shown

DELIMITERS = ",;\t|"  # in files without the suffix of a table, also a space
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv")
_SAMPLE = 100  # the cells of at most this many rows, spread over the table, are looked up as files
MOST_SHOWN = 20  # columns that a sentence names
_HEAD_BYTES = 1 << 16  # the first bytes of a text file show whether it is a table
_DECLARED = re.compile(r'"?sep=([^\r\n]?)"?\s*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_NAMES = """
    picture path file filename image imagepath filepath imagefile imagefilename imagename picturepath picturefile
    picturename photo photopath img imgpath imgfile imgname fname fullpath relpath relativepath pictures images files
"""
# Usual names of the column of pictures, in lower case, without spaces and underscores; earlier ones are preferred.
PICTURE_COLUMNS = tuple(_NAMES.split())


@dataclass(frozen=True)
class _Grid:
    """The cells of a table, split by one delimiter; empty rows are left out."""

    cells: list[list[str]]
    lines: list[int]  # of each row, in the file

    def sample(self) -> list[list[str]]:
        """Rows from everywhere in the table, except the first, which may be a header."""
        rows = self.cells[1:]
        return rows[:: stride(len(rows), _SAMPLE)]

    def width(self) -> int:
        """Columns of the widest row that is looked at."""
        return max(map(len, (*self.cells[:1], *self.sample())), default=0)


def read_picture_table(
    path: Path, search_path: SearchPath, *, label_column: str | None = None, picture_column: str = ""
) -> Listing:
    """The rows of a table.

    label_column: its name in any case, or its number from 1; None reads no labels. An empty cell is no label.
    picture_column: likewise; "" finds the column whose cells are paths of files, preferring the names in
    `PICTURE_COLUMNS`.
    Raises DataError if the table cannot be read or lacks a column.
    """
    text = read_list_text(path)
    grid = _split_into_cells(
        path, text, search_path, DELIMITERS if suffix_of(path.name) in TABLE_SUFFIXES else DELIMITERS + " "
    )
    if not grid.cells:
        return Listing([])
    counts = [_files_in(column, grid.sample(), search_path) for column in range(grid.width())]
    picture = _picture_index(path, grid, counts, search_path, picture_column)
    header = _header(grid, picture, search_path)
    if picture_column and not picture_column.strip().isdigit():
        header = _column_names(grid.cells[0])
    label = None if label_column is None else _column(path, header, grid.width(), label_column)
    first = 1 if header else 0
    rows = [
        Row(_cell(cells, picture) or "", _label(cells, label), line)
        for cells, line in zip(grid.cells[first:], grid.lines[first:], strict=True)
    ]
    return Listing(rows, _notes(path, grid, header, picture, given=bool(picture_column)))


def is_table(path: Path) -> bool:
    """Whether a text file is a table rather than a list of paths: its cells name files, its lines do not."""
    text = read_list_text(path, _HEAD_BYTES)
    search_path = SearchPath.of(path)
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if line and not line.startswith("#")][:_SAMPLE]
    if any(search_path.find(line) for line in lines[: _SAMPLE // 4]):
        return False
    grid = _split_into_cells(path, text, search_path, DELIMITERS + " ")
    return any(_files_in(column, grid.cells[:_SAMPLE], search_path) for column in range(1 + grid.width()))


def _split_into_cells(path: Path, text: str, search_path: SearchPath, delimiters: str) -> _Grid:
    """The table, split by the delimiter that it declares (`sep=;`), else by the one that gives most cells with
    files."""
    declared, first = _DECLARED.match(text), 1
    if declared:
        text, first = text[declared.end() :], 2
        if declared[1] not in ("", '"'):  # a quotation mark cannot separate cells
            return _grid(path, text, declared[1], first)
    best, chosen = (-1, False, -1, False), delimiters[0]
    for delimiter in delimiters:
        try:
            sample = list(islice(csv.reader(_lines(text), delimiter=delimiter), _SAMPLE))
        except csv.Error:
            continue
        sample = [row for row in sample if any(cell.strip() for cell in row)]
        width = max(map(len, sample), default=0)
        score = (
            max((_files_in(column, sample, search_path) for column in range(width)), default=0),
            width > 1 and any(_is_usual_name(cell) for cell in sample[0]),
            max((_pictures_in(column, sample) for column in range(width)), default=0),
            width > 1 and delimiter != " ",
        )
        if score > best:
            best, chosen = score, delimiter
    return _grid(path, text, chosen, first)


def _grid(path: Path, text: str, delimiter: str, first: int = 1) -> _Grid:
    cells, lines, begins = [], [], first
    try:
        reader = csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=delimiter != "\t")
        for row in reader:
            if any(cell.strip() for cell in row):
                cells.append(row)
                lines.append(begins)
            begins = reader.line_num + first
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV table ({error}): save it as CSV again") from None
    return _Grid(cells, lines)


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline=None)  # the line ends of all systems


def _picture_index(path: Path, grid: _Grid, counts: list[int], search_path: SearchPath, wanted: str) -> int:
    """The index of the column of the pictures: the column `wanted` or, if that is "", the first of these that exists.

    1. A column with a usual name, if it has at least half as many paths of files as any other column.
    2. The column with most paths of files.
    3. The column with most names of pictures.
    """
    head = grid.cells[0]
    if wanted:
        return _column(path, _column_names(head), grid.width(), wanted)
    files = [
        count + bool(search_path.find(_cell(head, column) or "")) if _cell(head, column) else count
        for column, count in enumerate(counts)
    ]
    known = [(rank, column) for column, cell in enumerate(head) if (rank := _rank_of_name(cell)) >= 0]
    for _, column in sorted(known):
        if 2 * files[column] >= max(files):
            return column
    if max(files):
        return files.index(max(files))
    named = [_pictures_in(column, [head, *grid.sample()]) for column in range(len(counts))]
    return named.index(max(named))


def _header(grid: _Grid, picture: int, search_path: SearchPath) -> list[str]:
    """The names of the columns; none if the first row already names a picture (whose file may be missing)."""
    head = grid.cells[0]
    cell = _cell(head, picture) or ""
    if cell and search_path.find(cell):
        return []
    if any(map(_is_usual_name, head)):
        return _column_names(head)
    if _looks_like_path(cell) or _has_same_pattern(
        cell, [_cell(row, picture) or "" for row in grid.sample()]
    ):
        return []
    return _column_names(head)


def _looks_like_path(cell: str) -> bool:
    return suffix_of(cell.replace("\\", "/")) in PICTURE_SUFFIXES or "/" in cell or "\\" in cell


def _has_same_pattern(cell: str, others: Sequence[str]) -> bool:
    """Whether a cell looks like all cells below it (a hash above hashes); then it is not the name of a column."""
    return bool(
        others
        and re.search(r"\d", cell)
        and " " not in cell
        and all(len(other) == len(cell) and suffix_of(other) == suffix_of(cell) for other in others)
    )


def _column(path: Path, header: list[str], width: int, wanted: str) -> int:
    """The index of a column by its name, or else by its number from 1."""
    name = wanted.strip().casefold()
    folded = [cell.casefold() for cell in header]
    if name in folded:
        return folded.index(name)
    if name.isascii() and name.isdigit() and len(name) < 10 and 1 <= int(name) <= width:
        return int(name) - 1
    known = ", ".join(map(shown, folded[:MOST_SHOWN])) if header else "none, because it has no header line"
    if len(folded) > MOST_SHOWN:
        known += f" and {len(folded) - MOST_SHOWN} more"
    raise DataError(
        f"{path} has no column {shown(wanted)}: name one of its columns ({known}), or give its number from 1 to "
        f"{width}"
    )


def _notes(path: Path, grid: _Grid, header: list[str], picture: int, *, given: bool) -> tuple[str, ...]:
    """A note on which column was used, if that is not obvious."""
    if given or (grid.width() == 1 and not header):
        return ()
    if not header:
        return (f"{path.name} has no header line: its column {picture + 1} is used for the pictures' paths",)
    if sum(map(_is_usual_name, header)) == 1 and picture < len(header) and _is_usual_name(header[picture]):
        return ()
    name = shown(header[picture]) if picture < len(header) else str(picture + 1)
    return (f"{path.name}: pictures are named by column {name} (--picture-column takes another)",)


def _rank_of_name(cell: str) -> int:
    plain = re.sub(r"[\s_.-]", "", cell).lower()
    return PICTURE_COLUMNS.index(plain) if plain in PICTURE_COLUMNS else -1


def _is_usual_name(cell: str) -> bool:
    return _rank_of_name(cell) >= 0


def _column_names(head: list[str]) -> list[str]:
    return [as_text(cell).strip() for cell in head]


def _cell(row: list[str], index: int | None) -> str | None:
    return row[index].strip() or None if index is not None and index < len(row) else None


def _label(row: list[str], index: int | None) -> str | None:
    cell = _cell(row, index)
    return None if cell is None else as_text(cell)


def _files_in(column: int, rows: Sequence[list[str]], search_path: SearchPath) -> int:
    return sum(1 for row in rows if (cell := _cell(row, column)) and search_path.find(cell))


def _pictures_in(column: int, rows: Sequence[list[str]]) -> int:
    return sum(1 for row in rows if (cell := _cell(row, column)) and _looks_like_path(cell))
