"""A run's own pictures, with the domains and style codes that its model gives them, for the report."""

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
    classes: list[str]  # of every picture; empty if no classes are known
    domains: int
    found: Integers  # (N,): the likeliest domain
    confidences: NDArray[np.floating]  # (N,): its probability
    styles: Tensor  # (N, style width)

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
        """The accuracy of the domains with respect to the classes; None if no classes are known."""
        if not self.classes:
            return None
        numbers = {name: i for i, name in enumerate(sorted(set(self.classes)))}
        return clustering_accuracy(self.found, np.array([numbers[name] for name in self.classes]))

    def common_class(self, k: int) -> str:
        """The most frequent class of domain k; "" if no classes are known."""
        if not self.classes:
            return ""
        names, counts = np.unique(np.array(self.classes)[self.found == k], return_counts=True)
        return str(names[counts.argmax()])


def guide_pictures(packed: PackedPictures, model: Model) -> GuidedPictures:
    """Run E on the pictures of a pack or, if there are many, on some of them, evenly spread."""
    there = len(packed.names)
    rows = evenly_spread(there, number_looked_at(there, packed.images.shape[1]))
    images = np.asarray(packed.images[rows])
    probabilities, styles = probabilities_and_styles(model, images)
    confidences, found = (tensor.numpy() for tensor in probabilities.max(1))
    names = [packed.names[i] for i in rows]
    return GuidedPictures(
        images, names, _classes_of(packed, rows), model.settings.domains, found, confidences, styles
    )


def number_looked_at(there: int, side: int) -> int:
    """How many pictures a report is based on, if there are `there` pictures of `side` px."""
    return min(there, MOST_PICTURES, max(FEWEST_PICTURES, MOST_PIXELS // side**2))


def _classes_of(packed: PackedPictures, rows: Integers) -> list[str]:
    """The class of every picture, if classes are known: the labels or, without labels, the folders of the
    pictures.
    """
    if packed.classes:
        names = [packed.classes[label] if label >= 0 else "" for label in packed.labels[rows]]
    else:
        labels = class_labels(packed.names)[0]
        names = [labels[i] or "" for i in rows]
    return names if 1 < len(set(names)) <= MOST_CLASSES else []
