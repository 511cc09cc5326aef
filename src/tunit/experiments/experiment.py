"""What a table of the paper is: rows, each a training and what comes before it, and the orderings that it claims."""

from dataclasses import dataclass, field

# Where the labels of a training come from.
NONE = "none"
CLASSES = "classes"  # the true ones
IMAGES = "k-means on images"
FEATURES = "k-means on features"
FIRST = "domains of the first training"
LABEL_SOURCES = (NONE, CLASSES, IMAGES, FEATURES, FIRST)

Paper = dict[str, dict[str, float]]  # data set -> figure -> value


@dataclass(frozen=True)
class Experiment:
    """One row of a table: a training, and what comes before it."""

    name: str
    title: str
    preset: str
    labels: str = NONE
    first: str = ""  # preset of a training whose domains become the labels
    guide_kept: bool = False  # the training begins with the first one's E
    overrides: dict[str, str] = field(default_factory=dict)
    translates: bool = True  # else only the clustering is measured
    labelled_share: float = 0.0  # of the pictures' true labels that the training sees
    labelled_of_class: int = 0  # the same as a number of pictures of each class
    strengths: tuple[float, ...] = ()  # translate the first class into the second so far (figure 4)
    paper: Paper = field(default_factory=dict)

    @property
    def few_labels(self) -> bool:
        """Whether it sees a part of the true labels."""
        return bool(self.labelled_share or self.labelled_of_class)


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper: in `figure`, every row of `low` is at most `factor` times every other row of `high`.

    With the same rows on both sides it says that these lie within that factor of each other.
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
    map_of: tuple[str, ...] = ()  # rows of which a map of styles is made
    orderings: tuple[Ordering, ...] = ()
    classes: int = 0  # it takes so many classes of the pictures; 0 for all


def chosen(table: Table, words: tuple[str, ...]) -> tuple[list[Experiment], str]:
    """The rows that words name, in the table's order, and the first word that names none ("" without any).

    A word is a row's name, or the beginning of several up to a space: "TUNIT" takes "TUNIT 1 %" and so on. Spaces
    do not count otherwise.
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
