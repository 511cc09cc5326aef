"""Read text files of paths, in the encodings and spellings that programs write, and find the named files."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunit.errors import DataError, reason_of
from tunit.files.paths import expand_home, path_of_file_url, without_dots

MOST_BYTES = 1 << 28  # the largest file of a list; some millions of paths
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One line of a list: a path as written, its label, and its number in the file."""

    path: str
    label: str | None = None
    line: int = 0


@dataclass(frozen=True)
class Listing:
    """The rows of a list or table, and notes for the user on how it was read."""

    rows: list[Row]
    notes: tuple[str, ...] = ()


def read_list(path: Path) -> Listing:
    """The paths of a text file, one per line; blank lines and lines that begin with # are skipped."""
    lines = (line.strip() for line in re.split(r"\r\n|\r|\n", read_list_text(path)))
    kept = [Row(line, line=number) for number, line in enumerate(lines, start=1) if line]
    return Listing([row for row in kept if not row.path.startswith("#")])


def read_list_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a list: UTF-8; UTF-16 or UTF-32 with a byte order mark; or UTF-16 recognised by its zero bytes.

    Bytes that are not UTF-8 are kept as Python keeps them in file names, so that such files are found. most: bytes to
    read; a file larger than MOST_BYTES is refused in any case.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path} is larger than {MOST_BYTES:,} bytes: split the list, or give a folder")
        with path.open("rb") as file:
            data = file.read(most)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason_of(error)}): check its permissions") from None
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    head = data[:4096]
    if b"\0" not in head:
        return data.decode("utf-8", "surrogateescape")
    zeros = head[::2].count(0), head[1::2].count(0)
    if min(zeros) == 0 and max(zeros) * 4 > len(head):
        return data.decode("utf-16-le" if zeros[1] else "utf-16-be", "replace")
    raise DataError(f"{path} is neither a picture, an archive nor a text: give one of these, or a folder")


@dataclass(frozen=True)
class SearchPath:
    """Where the relative paths of a list are searched for: first the folder of the list, then the working folder."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, source: Path) -> "SearchPath":
        """The search path of the list `source`."""
        here = without_dots(source).parent
        return cls(tuple(dict.fromkeys((here, Path.cwd()))))

    def find(self, written: str) -> tuple[Path, str] | None:
        """The file that a path as written means, and the spelling that led to it; None if there is none."""
        for spelling in _spellings(written):
            for folder in self.folders:
                if _is_file(path := folder / spelling):
                    return path, spelling
        return None

    def why_not(self, written: str) -> str:
        """Why `find` finds nothing, in words for the user."""
        if _ADDRESS.match(written):
            return "an address, not a file: download it first"
        if "\n" in written:
            return "no such file; its path has a line break, perhaps because a quotation mark is never closed"
        for folder in self.folders:
            if os.path.lexists(folder / written.replace("\0", "")):
                return "not a regular file"
        if Path(written).is_absolute():
            return "no such file"
        return f"no such file in {' or '.join(map(str, self.folders))}"


def _spellings(written: str) -> Iterator[str]:
    """Spellings of a path to try: as written, unquoted, with Windows' slashes, with ~ expanded, in other
    encodings, and the path of a file:// URL."""
    yield written
    plain = written
    if len(plain) > 2 and plain[0] == plain[-1] and plain[0] in "\"'`":
        plain = plain[1:-1]
        yield plain
    if (path := path_of_file_url(plain)) is not None:
        yield path
        plain = plain.partition("://")[2]  # some programs write names as they are after file://
        yield plain
    if "\\" in plain:
        yield plain.replace("\\", "/")
    if plain.startswith("~"):
        yield str(expand_home(plain))
    if not plain.isascii():
        plain = as_text(plain).replace("\\", "/")
        yield plain
        yield unicodedata.normalize("NFC", plain)
        yield unicodedata.normalize("NFD", plain)


def as_text(cell: str) -> str:
    """The text of a cell.

    Bytes that are not UTF-8 are decoded as Windows-1252, the usual encoding of spreadsheets.
    """
    if cell.isascii() or not any("\udc80" <= char <= "\udcff" for char in cell):
        return cell
    data = cell.encode("utf-8", "surrogateescape")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _is_file(path: Path) -> bool:
    """As Path.is_file, but False for impossible names, such as one of 300 bytes."""
    try:
        return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for a name that is too long)
    except ValueError:  # a null character
        return False


__all__ = ["Listing", "Row", "SearchPath", "as_text", "read_list", "read_list_text"]
