"""Make text from files, folders, tables or people printable. All text for the terminal and for pages passes through
this module.

Names and labels can contain anything: control characters, escape sequences for terminals, marks that change the
direction of writing, bytes that are not UTF-8 (Python keeps them as lone surrogates), brackets that look like markup.
"""

import html
import io
import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Also kept, although Python does not call them printable: the joiners that Persian, Hindi and some emoji need.
_KEPT = frozenset("\u200c\u200d")
STREAMS = {"stdout": "standard output", "stderr": "standard error"}
LONGEST_SHOWN = 120  # characters of a value in a sentence


def printable(text: object) -> str:
    r"""The text on one line. Characters that are invisible or control a terminal are written as \n, \x1b, \u202e.

    A byte that is not UTF-8 is written as \xe9. Text that is already printable does not change.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(_shown(char) for char in plain)


def listed(items: list[str], most: int = 6, word: str = "and") -> str:
    """The items as "a, b and c"; if there are more than `most`, the rest is only counted. word: before the last."""
    if len(items) > most:
        return f"{', '.join(items[:most])} and {len(items) - most} more"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def numbered(number: int, noun: str) -> str:
    """A number with a noun that takes an s: "1 step", "1,000 steps"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shown(char: str) -> str:
    if char.isprintable() or char in _KEPT or unicodedata.category(char) == "Zs":
        return char
    if "\udc80" <= char <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return _escaped(char)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def in_sentence(text: object) -> str:
    r"""As `printable`, for messages: characters that look like a space or are invisible are written as \xa0, \u200d.

    A reader could not tell them from a space, and they are often the reason for the message.
    """
    plain = printable(text)
    if plain.isprintable():
        return plain
    return "".join(char if char.isprintable() else _escaped(char) for char in plain)


def full_sentence(text: str) -> str:
    """A clause of at least one character as a sentence of its own, with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def escape(text: object, quote: bool = True) -> str:
    """The text for an HTML page, printable and with its markup characters escaped."""
    return html.escape(printable(text), quote)


def show(*lines: object) -> None:
    """Print lines of a result on standard output, each made printable."""
    for line in lines:
        print(printable(line), flush=True)


def show_unless(quiet: bool) -> Callable[..., None]:
    """`show`; if `quiet`, a function that prints nothing."""
    return (lambda *lines: None) if quiet else show


def command(*words: object) -> str:
    """The command `tunit WORDS` as one types it into a shell: words with spaces, for example, are quoted."""
    return shlex.join(["tunit", *map(str, words)])


def remark(text: object, *, name: str = "tunit: ") -> None:
    """Print a remark or an error on standard error, separate from the results."""
    print(name + in_sentence(text), file=sys.stderr, flush=True)


def show_table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, title: str | None = None, left: int = 1
) -> None:
    """Print a table. The first `left` columns are text, the others figures. Nothing in it is read as markup."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*map(printable, head), title=None if title is None else printable(title))
    for column in table.columns[left:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(printable, row))
    Console(markup=False, highlight=False, emoji=False).print(table)


def protect_streams() -> None:
    """Make sure that no print fails: characters that the terminal's encoding lacks are written as escapes.

    If the reader has ended (`tunit ... | head`), further output is dropped, and the work continues, because its
    results are files.
    """
    for name in STREAMS:
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        raw = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED, the buffer itself
        if isinstance(raw, io.FileIO):
            stream.flush()
            lines = stream.line_buffering or raw is stream.buffer
            _replaced.append(stream)  # otherwise the old stream would close its file when it is deleted
            buffer = io.BufferedWriter(_ProtectedStream(raw, STREAMS[name]))
            setattr(
                sys,
                name,
                io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines),
            )


_replaced: list[TextIO] = []  # the streams that `protect_streams` has replaced
_silenced: list[TextIO] = []  # standard output and error, while this process is silenced


def silence() -> None:
    """Let this process print nothing until `end_silence`. If several processes train together, only rank 0 prints."""
    _silenced[:] = [sys.stdout, sys.stderr]
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def end_silence() -> None:
    """Undo `silence`, to print something that only this process knows."""
    if _silenced:
        sys.stdout, sys.stderr = _silenced
        _silenced.clear()


class _ProtectedStream(io.RawIOBase):
    """A stream that drops all further output after its reader has ended, or after a write has failed once."""

    def __init__(self, raw: io.FileIO, name: str) -> None:
        self._raw = raw
        self._name = name  # for messages
        self._gone = False

    def writable(self) -> bool:
        """True: this stream is for writing."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._raw.isatty()

    def fileno(self) -> int:
        """The file descriptor."""
        return self._raw.fileno()

    def write(self, data: "ReadableBuffer") -> int | None:
        """Write or drop the data. Raises OSError at the first failure, except if the reader has ended."""
        if not self._gone:
            try:
                return self._raw.write(data)
            except BrokenPipeError:
                self._gone = True
            except OSError as error:
                self._gone = True
                raise OSError(error.errno, error.strerror, self._name) from None
        return memoryview(data).nbytes


def shown(value: object, most: int = LONGEST_SHOWN) -> str:
    """An untrusted value for use in a sentence: shortened, and without control characters.

    Texts and numbers are shown as Python writes them. Anything else is shown by its type, because its text might be
    endless.
    """
    if isinstance(value, str):
        text = repr(value if len(value) <= most else value[:most] + "...")
    elif isinstance(value, bool | float | None) or (isinstance(value, int) and abs(value) < 10**most):
        text = repr(value)
    elif isinstance(value, int):
        text = f"a number of more than {most} digits"
    elif (
        isinstance(value, tuple | list) and len(value) <= 4 and all(isinstance(v, int | float) for v in value)
    ):
        text = f"({', '.join(shown(v) for v in value)})"
    else:
        text = f"a {type(value).__name__}"
    return printable(text)
