"""E's output for pictures, in the form of the inference API."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tunit.clustering.outliers import appearance, no_appearance, outlier_scores
from tunit.data.batching.augment import to_uint8
from tunit.errors import ConfigError, DataError
from tunit.methods.model_file import Model
from tunit.methods.registry import method_of
from tunit.networks.guide import Guidance
from tunit.translation.engine import Engine, Squares
from tunit.translation.ray_engine import RayEngine


class Classified(NamedTuple):
    """E's domains of N pictures."""

    domains: Tensor  # (N,) int64
    confidences: Tensor  # (N,) the probability of that domain, 1 / domains to 1
    styles: Tensor  # (N, style width)


class DomainRow(NamedTuple):
    """One row of `Translator.domains`."""

    picture: str  # its name in the folder or archive, or "picture 3" of a list (counted from 0)
    domain: int
    confidence: float  # the probability of that domain
    outlier: float  # how far off-topic it is, from 0 to 1


def learns_domains(model: Model) -> bool:
    """Whether E of this model has learnt domains; if not, its logits have no meaning."""
    return method_of(model.config).learns_domains


def check_learns_domains(model: Model) -> None:
    """Raises ConfigError if E of this model has learnt no domains."""
    if not learns_domains(model):
        raise ConfigError(
            f"a model of method '{model.config.method.method}' does not tell the domain of a picture (its domains "
            "are the labels of its training): take a model of another method, or sort pictures by their styles"
        )


def joined(parts: Sequence[Guidance], what: str = "picture") -> Guidance:
    """E's output for several batches, joined into one.

    Raises DataError if there is none, because no `what` was given, or none that can be read.
    """
    if not parts:
        raise DataError(f"no {what} was given that can be used: give at least one that can be read")
    return Guidance(torch.cat([part.logits for part in parts]), torch.cat([part.style for part in parts]))


def classified(guidance: Guidance) -> Classified:
    """The most probable domain of each picture."""
    confidences, domains = guidance.logits.softmax(1).max(1)
    return Classified(domains, confidences, guidance.style)


def domain_rows(engine: Engine | RayEngine, batches: Iterable[Squares]) -> list[DomainRow]:
    """One row per picture."""
    names: list[str] = []
    appearances = [no_appearance()]

    def noted() -> Iterator[Squares]:
        """The same batches; what their pictures are called and look like is noted: the engine does not return it."""
        for batch in batches:
            names.extend(square.name for _, square in batch)
            if batch:
                appearances.append(
                    appearance(to_uint8(torch.stack([square.x for _, square in batch])).numpy())
                )
            yield batch

    parts = [guidance for _, _, guidance in engine.guided(noted())]
    if not parts:
        return []
    found = classified(joined(parts))
    outliers = outlier_scores(np.concatenate(appearances)).tolist()
    columns = (found.domains.tolist(), found.confidences.tolist(), outliers)
    return [DomainRow(*row) for row in zip(names, *columns, strict=True)]
