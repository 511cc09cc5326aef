"""What a table of the paper consists of: its rows (each is a training and its preparation) and the paper's claims."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunit.config import preset_differences, read_config
from tunit.errors import ConfigError

# Where a training gets its labels from.
NONE = "none"
CLASSES = "classes"  # the true ones
IMAGES = "k-means on images"
FEATURES = "k-means on features"
FIRST = "domains of the first training"

Paper = dict[str, dict[str, float]]  # data set -> figure -> value


@dataclass(frozen=True)
class Experiment:
    """One row of a table: a training and its preparation."""

    name: str
    title: str
    preset: str
    labels: str = NONE
    # The preset of a training that comes first, and whose domains become the labels of the second; "" for none.
    first: str = ""
    guide_kept: bool = False  # whether the second training begins with the E of the first
    overrides: dict[str, str] = field(default_factory=dict)
    translates: bool = True  # if False, only the clustering is measured
    labelled_share: float = 0.0  # the share of pictures with a (true) label in the training
    labelled_of_class: int = 0  # instead of a share, the number of labelled pictures per class
    strengths: tuple[float, ...] = ()  # strengths of the translations in figure 4
    paper: Paper = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of the folder of its runs."""
        return "".join(c if c.isalnum() else "-" for c in self.name).strip("-").lower()

    @property
    def few_labels(self) -> bool:
        """Whether the training sees only a part of the true labels."""
        return bool(self.labelled_share or self.labelled_of_class)

    @property
    def all_labels(self) -> bool:
        """Whether the (last) training gets a label for every picture."""
        return self.labels != NONE and not self.few_labels


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper, as an inequality: the `figure` of every row in `low` is at most `factor` times the figure
    of every row in `high`.

    If `low` and `high` are the same rows, this says that the largest of their figures is at most `factor` times the
    smallest: the rows are nearly equal.
    """

    words: str
    figure: str
    low: tuple[str, ...]
    high: tuple[str, ...]
    factor: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    figures: tuple[str, ...]  # names as in an evaluation
    rows: tuple[Experiment, ...]
    map_of: tuple[str, ...] = ()  # rows for which a map of styles is made
    orderings: tuple[Ordering, ...] = ()
    classes: int = 0  # how many classes of the pictures it uses; 0 for all


def with_rows(table: Table, presets: Sequence[Path]) -> Table:
    """`table` with a row for each preset file that a user adds (`--add`), named after the file.

    A preset that trains with labels gets the true ones. The new rows have all figures of the table, but the paper's
    claims do not include them. Raises ConfigError if a file is not a preset based on `paper`, or if a row of the
    table has the same folder.
    """
    rows = list(table.rows)
    for path in presets:
        supervised = read_config(str(path)).data.labels != "none"
        differences = preset_differences(str(path))
        # Wherever the preset takes labels from, the driver gives it the true classes.
        title = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in differences.items())
        added = Experiment(path.stem, title or "as paper", str(path), CLASSES if supervised else NONE)
        for row in rows:
            if row.folder == added.folder:
                like = "" if row.name == added.name else f", whose folder {added.name!r} would share"
                raise ConfigError(
                    f"{table.name} has a row {row.name!r} already{like}: give {path} another name"
                )
        rows.append(added)
    return replace(table, rows=tuple(rows))


def chosen(table: Table, words: tuple[str, ...]) -> tuple[list[Experiment], str]:
    """The rows that are named by `words`, in the table's order, and the first word that names no row (or "").

    A word is the name of a row (spaces do not matter), or the beginning of several names: "TUNIT" stands for
    "TUNIT 1 %" and so on.
    """
    names: set[str] = set()
    for word in words:
        exact = {row.name for row in table.rows if _bare(row.name) == _bare(word)}
        found = exact or {row.name for row in table.rows if row.name.startswith(f"{word} ")}
        if not found:
            return [], word
        names |= found
    return [row for row in table.rows if row.name in names or not words], ""


def _bare(name: str) -> str:
    return name.replace(" ", "").lower()
