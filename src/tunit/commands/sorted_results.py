"""Where `tunit domains` writes its files: a folder on this machine, or one in a store."""

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.picture_arguments import files_of
from tunit.files.result_names import GALLERY

if TYPE_CHECKING:
    from tunit.data.finding.found import PictureSource
    from tunit.data.finding.places import Place


class SortedResults:
    """The files that one call of `tunit domains` writes into `out`: a folder, or the URL of one."""

    def __init__(self, out: Path | str) -> None:
        from tunit.data.finding.places import place_of

        self._out = out
        self._place: Place = place_of(out)

    def claim(
        self,
        names: Iterable[str],
        *,
        overwrite: bool,
        source: Path | str | None = None,
        pictures: "Sequence[PictureSource]" = (),
    ) -> None:
        """Make sure that the files can be written. Raises DataError or RunError; see `check_names`.

        source, pictures: the source of this call, which may be a list or a table, and the pictures that were found
        in it. None of them is ever replaced.
        """
        from tunit.translation.result_files import check_names, check_names_in_store

        if isinstance(self._out, Path):
            keep = [*files_of(pictures), *([source] if isinstance(source, Path) else [])]
            check_names(self._out, names, overwrite=overwrite, keep=keep)
        elif pictures or not overwrite:  # otherwise nothing would be refused, and a store need not be listed
            there = self._place.names() & set(names)
            check_names_in_store(self._place.where, there, overwrite=overwrite, keep=pictures)

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A folder to write the files into; at the end they move to their place. See `destination.staged`."""
        from tunit.files.destination import staged

        if isinstance(self._out, Path):
            with staged(self._out) as stage:
                yield stage
            return
        with tempfile.TemporaryDirectory(prefix="tunit-") as scratch:
            yield Path(scratch)
            for path in sorted(Path(scratch).iterdir(), key=lambda path: (path.suffix == ".csv", path.name)):
                self._place.write(path.name, path.read_bytes())

    def read(self, name: str) -> bytes | None:
        """A file that is there now; None if there is none. Raises DataError."""
        return self._place.read(name)

    def galleries(self, table: str) -> set[str]:
        """The names of the galleries of domains that are there now. Raises DataError.

        table: the table of an earlier call. If it is there, only the galleries of its domains are meant: other files
        of such names are not of tunit.
        """
        there = {name: found[1] for name in self._place.names() if (found := GALLERY.fullmatch(name))}
        data = self.read(table) if there else None
        if data is None:
            return set(there)
        domains = _domains_in(data)
        return {name for name, number in there.items() if number in domains}

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that exist."""
        for name in names:
            self._place.remove(name)


def _domains_in(table: bytes) -> set[str]:
    """The domains that a table of `tunit domains` names; none if it is another table."""
    rows = csv.DictReader(io.StringIO(table.decode("utf-8", "replace"), newline=""))
    try:
        return {row.get("domain") or "" for row in rows}
    except csv.Error:
        return set()
