"""Compare translations of drawn creatures with the exact truth, which is known only for them."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tunit.clustering.cues import Pictures
from tunit.data.creatures.factors import Content, Style
from tunit.data.creatures.picture_set import (
    TABLE,
    Creature,
    draw_all,
    exact_translation,
    read_creatures,
    sample_creatures,
)
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile
from tunit.files.reading import LARGEST_TABLE, read_table
from tunit.methods.inference import BATCH, guidance_over, in_batches, redraw
from tunit.methods.model_file import Model

_COLUMNS = {"picture", "label", *(field.name for kind in (Content, Style) for field in fields(kind))}
_LONGEST_HEADER = 1 << 16  # characters
MOST_PAIRS = 300
# Names of the figures in evaluation.json.
EXACT_ERROR = "error against the exact truth (grey levels)"
ERROR_RATIO = "translation error ratio"


@dataclass(frozen=True)
class TruthTest:
    """Pairs of creatures, and for each the exact picture with the source's content and the reference's style.

    There may be no pair.
    """

    sources: Pictures  # (N, S, S, 3)
    references: Pictures  # (N, S, S, 3)
    truths: Pictures  # (N, S, S, 3)
    masks: NDArray[np.bool_]  # (N, S, S): the creature's own pixels in the truth
    pairs: tuple[tuple[Creature, Creature], ...]  # (source, reference)


@dataclass(frozen=True)
class TruthResult:
    """Mean absolute errors on the creature's own pixels, in grey levels from 0 to 255."""

    translation: float
    source: float  # the error of returning the source unchanged
    reference: float  # the error of returning the reference
    translations: Pictures  # (N, S, S, 3)

    @property
    def naive(self) -> float:
        """The error of the better naive answer."""
        return min(self.source, self.reference)

    @property
    def ratio(self) -> float:
        """Error of the translations divided by that of the better naive answer: 0 is perfect, 1 is useless.

        There is none if the naive answer has no error.
        """
        return self.translation / self.naive


def make_truth_test(number: int, size: int, seed: int) -> TruthTest:
    """`number` pairs of creatures drawn from `seed`, at `size` pixels."""
    creatures = sample_creatures(2 * number, seed)
    return truth_test_of(tuple(zip(creatures[:number], creatures[number:], strict=True)), size)


def truth_test_beside(source: Path, size: int, seed: int = 0) -> TruthTest | None:
    """At most MOST_PAIRS random pairs of the creatures whose pictures `source` holds, by the table in that folder or
    in its parent; None if there is no such table, or if none of the pictures is in it.

    The creatures of a pair differ, because returning the source would be right otherwise. So there is no pair if
    there is a single creature.
    """
    for folder in (source, source.parent):
        creatures = _creatures_in(source, folder / TABLE) if _is_of_creatures(folder / TABLE) else []
        if creatures:
            count = len(creatures)
            rows = np.random.default_rng(seed).integers(0, count, (min(MOST_PAIRS, count), 2))
            drawn = ((creatures[i], creatures[j if j != i else (i + 1) % count]) for i, j in rows)
            return truth_test_of(tuple((a, b) for a, b in drawn if a != b), size)
    return None


def _is_of_creatures(table: Path) -> bool:
    """Whether a file is a table with the columns of creatures. Other programs write a factors.csv, too."""
    try:
        with table.open(encoding="utf-8", errors="replace", newline="") as file:
            header = next(csv.reader([file.readline(_LONGEST_HEADER)]), [])
    except (OSError, csv.Error):
        return False
    return set(header) >= _COLUMNS


def _creatures_in(source: Path, table: Path) -> list[Creature]:
    """The creatures of a table whose pictures are among those of `source`; others may have been trained on.

    The places of pictures in an archive are unknown, so all creatures are taken then. Raises DataError.
    """
    creatures = read_creatures(table)
    contents = [picture.content for picture in find_pictures(source).pictures]
    paths = {content.path.resolve() for content in contents if isinstance(content, DiskFile)}
    if not paths:
        return creatures
    names = (name for (name,) in read_table(table, ["picture"], LARGEST_TABLE))
    return [c for c, name in zip(creatures, names, strict=True) if (table.parent / name).resolve() in paths]


def truth_test_of(pairs: tuple[tuple[Creature, Creature], ...], size: int) -> TruthTest:
    """The test of (source, reference) pairs, at `size` pixels."""
    truths, masks = draw_all([exact_translation(a, b) for a, b in pairs], size)
    sources, _ = draw_all([a for a, _ in pairs], size)
    references, _ = draw_all([b for _, b in pairs], size)
    return TruthTest(sources, references, truths, masks, pairs)


def masked_error(pictures: Pictures, truths: Pictures, masks: NDArray[np.bool_]) -> float:
    """Mean absolute error on masked pixels, in grey levels: the mean over pictures of each picture's mean."""
    difference = np.abs(pictures.astype(np.int16) - truths.astype(np.int16)).mean(axis=3)
    per_picture = (difference * masks).sum(axis=(1, 2)) / np.maximum(masks.sum(axis=(1, 2)), 1)
    return float(per_picture.mean())


def translation_error(model: Model, test: TruthTest) -> TruthResult:
    """Translate every source in the style of its reference and compare with the truth."""
    device = model.domain_styles.device
    styles = guidance_over(model.guide, in_batches(test.references, device)).style
    pairs = zip(in_batches(test.sources, device), torch.split(styles, BATCH), strict=True)
    translations = np.concatenate([redraw(model.generator, x, [s])[0].cpu().numpy() for x, s in pairs])
    return TruthResult(
        masked_error(translations, test.truths, test.masks),
        masked_error(test.sources, test.truths, test.masks),
        masked_error(test.references, test.truths, test.masks),
        translations,
    )
