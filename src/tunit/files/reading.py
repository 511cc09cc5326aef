"""Read small files of tunit and of its users safely: JSON, lines of JSON, CSV, TOML.

Whatever such a file contains, reading it either returns values of the requested kinds or raises an UnreadableError.
Its message is the reason, for a sentence that names the file and the remedy.
"""

import csv
import io
import json
import math
import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunit.errors import reason_of
from tunit.printing import shown

MEBIBYTE = 1 << 20
DEEPEST = 32  # levels of nested values
LONGEST_LINE = MEBIBYTE  # bytes of a line of JSON
LONGEST_LINES = 1 << 30  # bytes of all lines; a log of 200,000 steps has 100 MB
LARGEST_TABLE = 1 << 30  # bytes of a table that tunit wrote; pictures.csv of eight million pictures
LARGEST_WHOLE = 2**63 - 1  # the largest that PyTorch and NumPy accept


class UnreadableError(ValueError):
    """A file does not have the expected content; the message is the reason."""


class MissingError(UnreadableError):
    """There is no such file."""


def is_file(path: Path) -> bool:
    """Whether there is a file of this name; False for an impossible name, such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether there is anything of this name; False for an impossible name, such as one that is too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes. Raises UnreadableError, or MissingError if there is none."""
    try:
        _check_regular(path)
        if path.stat().st_size > most:  # before memory is allocated for it
            raise UnreadableError(f"it has more than {most:,} bytes")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise MissingError("it does not exist") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(reason_of(error) if isinstance(error, OSError) else str(error)) from None
    if len(data) > most:
        raise UnreadableError(f"it has more than {most:,} bytes")
    return data


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
        raise UnreadableError("it is not a file")


def read_text(path: Path, most: int, errors: str = "strict") -> str:
    """The content of a UTF-8 file of at most `most` bytes. Raises UnreadableError."""
    try:
        return read_bytes(path, most).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 at byte {error.start:,}") from None


def read_json(path: Path, most: int = MEBIBYTE) -> Any:
    """The JSON value of a file. Raises UnreadableError."""
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """The JSON value of a text, of bounded depth. Raises UnreadableError."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise UnreadableError("its values are nested too deep") from None
    except ValueError as error:
        raise UnreadableError(f"it is not JSON: {str(error)[:100]}") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return value
    raise UnreadableError("its values are nested too deep")


def _inner(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file with one on each line. Other lines, such as one cut off by a crash, are left out.

    Raises UnreadableError if the file cannot be read, or has more than LONGEST_LINES bytes.
    """
    try:
        _check_regular(path)
        if path.stat().st_size > LONGEST_LINES:
            raise UnreadableError(f"it has more than {LONGEST_LINES:,} bytes")
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                try:
                    value = parse_json(line.decode("utf-8"))
                except ValueError:
                    continue
                if isinstance(value, dict):
                    yield value
    except FileNotFoundError:
        raise MissingError("it does not exist") from None
    except OSError as error:
        raise UnreadableError(reason_of(error)) from None


def read_table(path: Path, columns: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """The cells under `columns`, for each row of a CSV file with a header.

    A byte order mark and empty lines, as spreadsheets write them, are skipped. Bytes that are not UTF-8 are kept in
    the way of Python's file names (surrogateescape). Raises UnreadableError.
    """
    text = read_text(path, most, "surrogateescape").removeprefix("\ufeff")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UnreadableError(f"it is not a CSV table: {error}") from None
    numbered = [(number, row) for number, row in enumerate(rows, 1) if row]
    header = numbered[0][1] if numbered else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise UnreadableError(f"it has no column {missing[0]!r}")
    places = [header.index(name) for name in columns]
    for number, row in numbered[1:]:
        if len(row) != len(header):
            raise UnreadableError(f"its row {number} has {len(row)} cells of {len(header)}")
    return [tuple(row[place] for place in places) for _, row in numbered[1:]]


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text. Raises UnreadableError."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UnreadableError("its values are nested too deep") from None
    except ValueError as error:
        raise UnreadableError(str(error)[:200]) from None


class Record:
    """A JSON object whose values are read by name and kind; each method raises UnreadableError.

    values: what was read, of any kind. name: the name of the object in error messages.
    """

    def __init__(self, values: Any, name: str = "it") -> None:
        if not isinstance(values, dict):
            raise UnreadableError(f"{name} is {shown(values)}, not an object with names")
        self.values: dict[str, Any] = values
        self.name = name

    def _wrong(self, name: str, kind: str) -> UnreadableError:
        if name not in self.values:
            return UnreadableError(f"{self.name} has no {name!r}")
        return UnreadableError(f"{name} of {self.name} is {shown(self.values[name])}, not {kind}")

    def whole(self, name: str, low: int = 0, high: int = LARGEST_WHOLE) -> int:
        """A whole number within limits."""
        value = self.values.get(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        if not is_number(self.values.get(name)):
            raise self._wrong(name, "a number")
        return float(self.values[name])

    def text(self, name: str) -> str:
        """A text."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        return value

    def wholes(self, name: str, low: int = 0, high: int = LARGEST_WHOLE) -> list[int]:
        """A list of whole numbers within limits."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(type(n) is int and low <= n <= high for n in value):
            raise self._wrong(name, f"a list of whole numbers from {low} to {high}")
        return value

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(map(is_number, value)):
            raise self._wrong(name, "a list of numbers")
        return [float(n) for n in value]

    def records(self, name: str) -> list["Record"]:
        """A list of objects."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list of objects")
        return [Record(item, f"{name} of {self.name}") for item in value]

    def record(self, name: str) -> "Record":
        """An object within the object."""
        if not isinstance(self.values.get(name), dict):
            raise self._wrong(name, "an object with names")
        return Record(self.values[name], f"{name} of {self.name}")


def is_number(value: Any) -> bool:
    """Whether a value is a number, and finite as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e308 <= value <= 1e308 and math.isfinite(value)
