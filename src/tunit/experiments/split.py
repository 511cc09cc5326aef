"""The pictures of an experiment: split into training and held-back ones, with their classes, as CSV tables."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunit.config import suggestion
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile
from tunit.data.finding.source_kind import kind_of
from tunit.errors import DataError, RunError
from tunit.files.atomic import writable, write_text
from tunit.files.paths import without_dots
from tunit.files.reading import LARGEST_TABLE, UnreadableError, read_table
from tunit.printing import remark

HELD_SHARE = 0.2  # the share of each class that is held back
CLASS = "class"  # the column of true classes
LABEL = "label"  # the column of the labels to train with
_SHOWN = 5  # classes that a message names
FEWEST = 4  # a class must have this many pictures, because some are held back


@dataclass(frozen=True)
class Split:
    """Training and held-back pictures: absolute paths and classes, in the order of the paths."""

    train: list[tuple[str, str]]
    held: list[tuple[str, str]]

    @property
    def classes(self) -> list[str]:
        """All class names, in order."""
        return sorted({name for _, name in self.train})

    def of_classes(self, wanted: tuple[str, ...], number: int = 0) -> "Split":
        """Only the pictures of the wanted classes; if none are wanted, of the first `number` classes (0 for all).

        Raises DataError for a class that does not exist or has no held-back picture, or if `number` is given and the
        number of wanted classes differs from it.
        """
        known = self.classes
        for name in wanted:
            if name not in known:
                raise DataError(f"there is no class {name!r}{suggestion(name, known)} ({', '.join(known)})")
        if number and wanted and len(set(wanted)) != number:
            chosen = sorted(set(wanted))
            said = "1 class is chosen" if len(chosen) == 1 else f"{len(chosen)} classes are chosen"
            raise DataError(
                f"{said} ({_some(chosen)}), and this table takes {number}: choose {number} with --between A,B"
            )
        kept = set(wanted or (known[:number] if number else known))
        there = {name for _, name in self.held}
        missing = sorted(kept - there)
        if len(kept & there) < min(2, len(kept)):
            raise DataError(
                f"there are no held-back pictures of {_some(missing)}, only of {_some(sorted(there))}: give "
                "--held-back pictures of the same classes as --data, or choose classes with --between A,B"
            )
        if missing:
            remark(
                f"there are no held-back pictures of {_some(missing)}, so nothing is measured on these classes"
            )
        return Split([p for p in self.train if p[1] in kept], [p for p in self.held if p[1] in kept])


def _some(names: list[str]) -> str:
    """The first few of some classes."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def split_pictures(
    source: Path,
    held_back: Path | None = None,
    seed: int = 0,
    *,
    label_column: str = "label",
    picture_column: str = "",
) -> Split:
    """The pictures of `source` with their classes: folders, or the label column of a CSV table.

    held_back: another source with the held-back pictures; without it a fifth of every class is held back, drawn by
    `seed`. label_column, picture_column: of CSV tables, as in `find_pictures`. Raises DataError if there are no
    classes, or if pictures are not single files.
    """
    pictures = _with_classes(source, label_column, picture_column)
    if held_back is not None:
        return Split(pictures, _with_classes(held_back, label_column, picture_column))
    members: dict[str, list[str]] = defaultdict(list)
    for path, name in pictures:
        members[name].append(path)
    rng = np.random.default_rng(seed)
    train, held = [], []
    for name in sorted(members):
        paths = members[name]
        if len(paths) < FEWEST:
            raise DataError(f"class {name!r} has {len(paths)} pictures: give at least {FEWEST} of each class")
        order = rng.permutation(len(paths))
        number = max(1, round(HELD_SHARE * len(paths)))
        held += [(paths[i], name) for i in order[:number]]
        train += [(paths[i], name) for i in order[number:]]
    return Split(sorted(train), sorted(held))


def path_of_names(table: Path) -> dict[str, str]:
    """Name in a pack -> path, for the pictures of a table that `write_table` wrote."""
    found = find_pictures(table).pictures
    return {p.name: _path_of(p.content) for p in found if isinstance(p.content, DiskFile)}


def _path_of(file: DiskFile) -> str:
    return str(without_dots(file.path))


def _with_classes(source: Path, label_column: str, picture_column: str) -> list[tuple[str, str]]:
    found = find_pictures(
        source,
        labels="csv" if kind_of(source) == "table" else "folders",
        label_column=label_column,
        picture_column=picture_column,
    )
    pictures = []
    for picture in found.pictures:
        if not isinstance(picture.content, DiskFile):
            raise DataError(
                f"the pictures of {source} are in an archive, a database or shards: give them as files, because "
                "experiments refer to pictures by their paths"
            )
        if picture.label:
            pictures.append((_path_of(picture.content), picture.label))
    if len({name for _, name in pictures}) < 2:
        raise DataError(
            f"{source} holds fewer than two classes: give class folders, or a CSV with a label column"
        )
    return pictures


def write_table(
    path: Path, pictures: Iterable[tuple[str, str]], labels: Mapping[str, str] | None = None
) -> Path:
    """Write a CSV of pictures with their class and the label to learn from; an empty cell means no label.

    labels: path -> label; None takes the classes themselves.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("picture", CLASS, LABEL))
    for picture, name in pictures:
        writer.writerow((picture, name, name if labels is None else labels.get(picture, "")))
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def read_labels(path: Path) -> dict[str, tuple[str, str]]:
    """picture -> (class, label) of a table that `write_table` wrote. Raises RunError if it is damaged."""
    try:
        rows = read_table(path, ("picture", CLASS, LABEL), LARGEST_TABLE)
    except UnreadableError as error:
        raise RunError(f"{path} is damaged ({error}): remove its folder to have its row run again") from None
    return {picture: (name, label) for picture, name, label in rows}
