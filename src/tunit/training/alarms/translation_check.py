"""A few pictures redrawn during training: how much the results depend on the source and on the reference.

The figures are shares of the mean difference between two pictures of the set, so they do not depend on its contrast.
The alarms about G (joint_alarms.py) judge by them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tunit.config import Config
from tunit.data.packing.packed import PackedPictures
from tunit.methods.descent import mixed_precision
from tunit.methods.inference import (
    STATISTICS_BATCH,
    evaluating,
    evenly_spread,
    for_whole_pictures,
    guidance_over,
    in_batches,
    pictures_at_a_time,
    restyled,
)
from tunit.methods.state import TrainingState

CANDIDATES = 64  # pictures among which the references are chosen
SOURCES, REFERENCES = 8, 4
REDRAWN = SOURCES * (REFERENCES + 1)  # pictures that G draws in one check


@dataclass(frozen=True)
class TranslationSummary:
    """Mean absolute differences, as shares of the mean difference between two sources."""

    step: int
    style_effect: float  # between the translations of one source by different references
    content_effect: float  # between the translations of different sources by one reference
    reconstruction: float  # between a source and its reconstruction in its own style

    def figures(self) -> dict[str, float]:
        """The figures for the log, by name."""
        return {
            "translation/style_effect": self.style_effect,
            "translation/content_effect": self.content_effect,
            "translation/reconstruction_error": self.reconstruction,
        }


@torch.no_grad()
def translation_summary(state: TrainingState, pictures: PackedPictures, config: Config) -> TranslationSummary:
    """How much translations of a few pictures depend on the source and on the reference.

    The pictures are evenly spread over the set, and are redrawn with the EMAs of E and G in evaluation mode.

    The references are those of the candidates whose style codes are farthest apart: G should react to these at least.
    """
    networks = state.networks
    guide, generator = networks.guide_average, networks.generator_average
    rows = evenly_spread(len(pictures.names), CANDIDATES)
    sources = evenly_spread(len(rows), SOURCES)
    (x,) = in_batches(pictures.images, state.queue.device, SOURCES, rows[sources])

    def candidates() -> Iterator[Tensor]:
        """All candidates in one batch or, above 256 px, in smaller ones, so that the memory does not grow."""
        size = min(CANDIDATES, pictures_at_a_time(STATISTICS_BATCH, pictures.images.shape[1]))
        return in_batches(pictures.images, state.queue.device, size, rows)

    with for_whole_pictures(guide, candidates()), evaluating(generator), mixed_precision(x, config):
        s = guidance_over(guide, candidates()).style.to(x.device)
        styles = [*s[_farthest_apart(s, REFERENCES)], s[sources]]
        *drawn, rebuilt = (picture.float() for picture in restyled(generator, x, styles))
    return summary_of(state.step, x, torch.stack(drawn), rebuilt)


def summary_of(step: int, sources: Tensor, drawn: Tensor, rebuilt: Tensor) -> TranslationSummary:
    """The figures of S sources (S, 3, h, w), their translations by R references (R, S, 3, h, w), reconstructions."""
    spread = max(_mean_difference(sources), 1e-6)
    by_reference, by_source = drawn.transpose(0, 1), drawn  # a source with all references, and the reverse
    return TranslationSummary(
        step,
        style_effect=sum(map(_mean_difference, by_reference)) / len(by_reference) / spread,
        content_effect=sum(map(_mean_difference, by_source)) / len(by_source) / spread,
        reconstruction=(rebuilt - sources).abs().mean().item() / spread,
    )


def _mean_difference(pictures: Tensor) -> float:
    """The mean absolute difference of two different ones of N pictures; 0 if there is only one."""
    number = len(pictures)
    flat = pictures.flatten(1).cpu()  # not every device can compute pairwise distances
    return float(torch.pdist(flat, p=1).mean()) / flat.shape[1] if number > 1 else 0.0


def _farthest_apart(codes: Tensor, number: int) -> list[int]:
    """Rows of codes (N, width): the first, then always the one farthest from those already chosen; all different."""
    chosen, nearest = [0], (codes - codes[0]).norm(dim=1)
    while len(chosen) < min(number, len(codes)):
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((codes - codes[chosen[-1]]).norm(dim=1))
    return chosen
