"""E's output for pictures, in the form of the inference API."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tunit.clustering.outliers import outlier_scores
from tunit.data.finding.found import PictureSource
from tunit.networks.guide import Guidance
from tunit.translation.inputs import Picture


class Classified(NamedTuple):
    """E's domains of N pictures."""

    domains: Tensor  # (N,) int64
    confidences: Tensor  # (N,) the probability of that domain, 1 / domains to 1
    styles: Tensor  # (N, style width)


class DomainRow(NamedTuple):
    """One row of `Translator.domains`."""

    picture: str  # its name in the folder or archive, or "picture 3" of a list
    domain: int
    confidence: float  # the probability of that domain
    outlier: float  # how far off-topic it is, from 0 to 1


def joined(parts: Sequence[Guidance]) -> Guidance:
    """E's output for several batches, joined into one."""
    return Guidance(torch.cat([part.logits for part in parts]), torch.cat([part.style for part in parts]))


def classified(guidance: Guidance) -> Classified:
    """The most probable domain of each picture."""
    confidences, domains = guidance.logits.softmax(1).max(1)
    return Classified(domains, confidences, guidance.style)


def name_of(picture: Picture, number: int) -> str:
    """The name of a picture in the table: the name of its file or, for a picture in memory, its number."""
    return picture.name if isinstance(picture, PictureSource) else f"picture {number}"


def domain_rows(names: Sequence[str], guidance: Guidance) -> list[DomainRow]:
    """One row per picture."""
    found = classified(guidance)
    outliers = outlier_scores(found.styles.numpy()).tolist()
    columns = (found.domains.tolist(), found.confidences.tolist(), outliers)
    return [DomainRow(*row) for row in zip(names, *columns, strict=True)]
