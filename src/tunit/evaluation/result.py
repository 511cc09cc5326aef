"""Input and result of an evaluation: labelled pictures, and all figures with notes and costs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunit.clustering.cues import Integers, Pictures
from tunit.errors import DataError
from tunit.evaluation.against_trivial import TrivialComparison
from tunit.evaluation.intervals import Figure

# The end of the note of an evaluation on pictures that the run was trained on.
UNFAIR = "figures are fair only for pictures held back"
NO_FEATURES = "none"  # the name of the feature network in an evaluation without one


@dataclass(frozen=True)
class Labelled:
    """Pictures with their classes, as far as these are known."""

    images: Pictures  # (N, S, S, 3)
    classes: Integers  # (N,) indices into `names`, -1 where unknown
    names: list[str]

    @property
    def has_several_classes(self) -> bool:
        """Whether at least two classes are known."""
        return len(np.unique(self.classes[self.classes >= 0])) > 1


@dataclass
class Evaluation:
    """The result of an evaluation. The names of figures are those in the printed table."""

    # Name of a measured number (not of a drawing) -> the number, with its interval if it has one.
    figures: dict[str, Figure | float] = field(default_factory=dict)
    groups: dict[str, dict[str, Figure]] = field(default_factory=dict)  # per class, or per domain found
    grouped_by: str = "class"
    domain_sizes: list[int] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)  # domains x classes
    class_names: list[str] = field(default_factory=list)
    trivial: TrivialComparison = field(default_factory=TrivialComparison)
    features: str = ""  # the feature network, with its preprocessing
    notes: list[str] = field(default_factory=list)
    # Which of the pictures the run was trained on, such as "3 of the 28 pictures were trained on"; "" if none, or if
    # that is unknown. It is among the notes, too.
    trained_on: str = ""
    seconds: dict[str, float] = field(default_factory=dict)  # cost of each part

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part's cost."""
        began = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

    @contextmanager
    def errors_as_notes(self, what: str) -> Iterator[None]:
        """Turn a DataError of the block, which means that something cannot be measured, into a note."""
        try:
            yield
        except DataError as error:
            self.notes.append(f"{what}: {error}")


def trained_on_of(found: Mapping[str, Any]) -> str:
    """`Evaluation.trained_on` of a result that was written as JSON.

    In results of development versions before 0.1.0, only the notes say it.
    """
    if "trained_on" in found:
        return str(found["trained_on"])
    end = f": {UNFAIR}"
    return next((note.removesuffix(end) for note in found.get("notes", []) if note.endswith(end)), "")
