"""The number of domains that was chosen, with its runners-up and reasons: as a record, as JSON, and in words."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunit.errors import RunError
from tunit.files.atomic import write_text
from tunit.files.reading import Record, UnreadableError, parse_json, read_text
from tunit.printing import command, numbered

NAME = "number_of_domains.json"  # in a run's folder
LARGEST = 1 << 20  # bytes; a larger file is refused
MOST_CHOSEN = 1000  # the largest number of domains that a file may hold
SHOWN = 3  # runners-up that the headline names


@dataclass(frozen=True)
class Candidate:
    """A number of domains, and the evidence for it."""

    domains: int
    # exp(its total of weighted votes - the largest total): 1 for the number with the largest total, near 0 for one
    # with much weaker evidence.
    score: float
    votes: dict[str, float]  # the measures of the total, by name, not yet weighted


@dataclass(frozen=True)
class Choice:
    """The number of domains chosen for a set of pictures."""

    domains: int
    # The number chosen, then the best of the others by their scores. The number chosen has the score 1, unless groups
    # were merged afterwards: then it is smaller than the number with the score 1.
    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...]  # plain sentences
    pictures: int  # how many were clustered
    step: int = 0  # the training step at which the number was chosen

    def record(self) -> dict[str, Any]:
        """The choice as JSON values, for `read_choice`."""
        values = asdict(self)
        return values | {"candidates": list(values["candidates"]), "reasons": list(self.reasons)}

    @property
    def headline(self) -> str:
        """One sentence: the number and its runners-up; if groups were merged, also how many there were before."""
        best = max(self.candidates, key=lambda c: c.score, default=None)
        named = {self.domains, best.domains} if best else {self.domains}
        others = [f"{c.domains} ({c.score:.2f})" for c in self.candidates if c.domains not in named][:SHOWN]
        own = ""
        if best:
            before = "" if best.domains == self.domains else f"{best.domains} before groups were merged, "
            own = f" ({before}score {best.score:.2f})"
        runners = f"; runners-up: {', '.join(others)}" if others else ""
        found = f"{numbered(self.domains, 'domain')} found among {numbered(self.pictures, 'picture')}"
        return f"{found}{own}{runners}"


def read_choice(record: Record) -> Choice:
    """The choice in JSON values of `Choice.record`. Raises UnreadableError if they are something else."""
    candidates = []
    for item in record.records("candidates"):
        votes = item.record("votes")
        candidates.append(
            Candidate(
                item.whole("domains", 1, MOST_CHOSEN),
                item.number("score"),
                {name: votes.number(name) for name in votes.values},
            )
        )
    return Choice(
        record.whole("domains", 1, MOST_CHOSEN),
        tuple(candidates),
        tuple(record.texts("reasons")),
        record.whole("pictures"),
        record.whole("step"),
    )


def write_choice_file(folder: Path, choice: Choice) -> None:
    """Write a choice into a run's folder, atomically."""
    write_text(folder / NAME, json.dumps(choice.record(), indent=2, sort_keys=True) + "\n")


def read_choice_file(folder: Path) -> Choice | None:
    """The choice in a run's folder; None if there is none, because the number was given.

    Raises RunError for a damaged file.
    """
    if not (folder / NAME).exists():
        return None
    try:
        return read_choice(Record(parse_json(read_text(folder / NAME, LARGEST)), NAME))
    except UnreadableError as error:
        raise RunError(
            f"{folder / NAME} is damaged ({error}): `{command('train', '--resume', folder)}` writes it again"
        ) from None
