"""A run's own pictures, with the domains and style codes that its model gives them, for the report."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.data.finding.class_folders import class_labels
from tunit.data.packing.packed import PackedPictures
from tunit.evaluation.clusters import DomainSizes, clustering_accuracy, domain_sizes
from tunit.evaluation.protocol import probabilities_and_styles
from tunit.methods.inference import evenly_spread
from tunit.methods.model_file import Model
from tunit.methods.registry import method_of

# A report is based on at most this many pictures, evenly spread over the set. Above 64 px there are fewer, so that a
# report takes about a minute on a CPU.
MOST_PICTURES, FEWEST_PICTURES, MOST_PIXELS = 5_000, 500, 5_000 * 64**2
MOST_CLASSES = 200  # if there are more folders, their names are not used as classes

Pictures = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class GuidedPictures:
    """N pictures with their domains and style codes."""

    images: Pictures  # (N, S, S, 3)
    names: list[str]
    classes: list[str]  # of every picture, "" if it is not known; empty if no classes are known
    domains: int
    found: Integers  # (N,): the likeliest domain; of a method that learns no domains, the label
    confidences: NDArray[np.floating]  # (N,): its probability
    styles: Tensor  # (N, style width)
    by_model: bool = True  # whether `found` is E's answer

    @cached_property
    def sizes(self) -> DomainSizes:
        """The sizes of the domains, and how evenly they are used."""
        return domain_sizes(self.found, self.domains)

    @cached_property
    def average_styles(self) -> Tensor:
        """The average style of each domain over these pictures: (domains, style width); zeros for an empty domain."""
        found = torch.from_numpy(self.found)
        totals = torch.zeros(self.domains, self.styles.shape[1]).index_add_(0, found, self.styles)
        return totals / torch.bincount(found, minlength=self.domains).clamp_min(1)[:, None]

    @cached_property
    def mean_confidences(self) -> list[float]:
        """The mean confidence in each domain; 0 for an empty one."""
        return [
            float(self.confidences[self.found == k].mean()) if size else 0.0
            for k, size in enumerate(self.sizes.sizes)
        ]

    @property
    def class_numbers(self) -> Integers:
        """The class of each picture: (N,) from 0 in the order of the names, -1 if unknown."""
        numbers = {name: i for i, name in enumerate(sorted(set(self.classes) - {""}))}
        return np.array([numbers.get(name, -1) for name in self.classes or [""] * len(self.names)], np.int64)

    @property
    def accuracy(self) -> float | None:
        """The accuracy of E's domains for the pictures whose class is known; None if fewer than two classes are."""
        numbers = self.class_numbers
        known = numbers >= 0
        if not self.by_model or len(np.unique(numbers[known])) < 2:
            return None
        return clustering_accuracy(self.found[known], numbers[known])

    def common_class(self, k: int) -> str:
        """The most frequent known class of domain k; "" if none is known."""
        counts = Counter(
            name for name, domain in zip(self.classes, self.found, strict=False) if domain == k and name
        )
        return counts.most_common(1)[0][0] if counts else ""


def guide_pictures(packed: PackedPictures, model: Model) -> GuidedPictures:
    """Run E on the pictures of a pack or, if there are many, on some of them, evenly spread."""
    there = len(packed.names)
    rows = evenly_spread(there, number_looked_at(there, packed.images.shape[1]))
    images = np.asarray(packed.images[rows])
    probabilities, styles = probabilities_and_styles(model, images)
    confidences, found = (tensor.numpy() for tensor in probabilities.max(1))
    by_model = method_of(model.config).learns_domains
    if not by_model:  # such a method learns from labels of all pictures
        found, confidences = packed.labels[rows], np.ones(len(rows))
    names, domains = [packed.names[i] for i in rows], model.settings.domains
    return GuidedPictures(
        images, names, _classes_of(packed, rows), domains, found, confidences, styles, by_model
    )


def number_looked_at(there: int, side: int) -> int:
    """How many pictures a report is based on, if there are `there` pictures of `side` px."""
    return min(there, MOST_PICTURES, max(FEWEST_PICTURES, MOST_PIXELS // side**2))


def _classes_of(packed: PackedPictures, rows: Integers) -> list[str]:
    """The class of every picture, "" if it is unknown: its label or, without labels, its folder. Empty unless there
    are at least two classes, and not too many.
    """
    if packed.classes:
        names = [packed.classes[label] if label >= 0 else "" for label in packed.labels[rows]]
    else:
        labels = class_labels(packed.names)[0]
        names = [labels[i] or "" for i in rows]
    return names if 1 < len(set(names) - {""}) <= MOST_CLASSES else []
