"""The warnings of a report: pure functions from figures to sentences."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.printing import full_sentence, listed
from tunit.training.alarms.guide_alarms import crowded_from

ALIKE = 0.98  # warn if the cosine of two domains' average styles is above this
UNSTEADY = 0.85  # warn if a smaller share of pictures keeps the domain when they are augmented
UNSURE = 0.5  # warn if the mean confidence in a domain is below this
TINY = 0.1  # warn if a domain has less than this part of an even share


class Finding(NamedTuple):
    """One remark."""

    serious: bool
    text: str


def findings(
    sizes: list[int],
    confidences: list[float],
    average_styles: Tensor,
    steady: float | None,
    cosine: float | None,
    undecided: str = "",
) -> list[Finding]:
    """Warnings in plain words.

    sizes: pictures in each domain; confidences: the mean of each domain, 0 if it is empty;
    average_styles: (K, width); steady: share of pictures whose domain stays the same in a changed view; cosine: the
    mean cosine between the style codes of translations and of their references. The last two are None if they were
    not measured. undecided: the sentence of `domains_undecided`, which replaces all remarks on domains; "" for none.
    """
    if undecided:
        return [Finding(True, full_sentence(undecided)), *_about_style(cosine)]
    return [
        *_about_sizes(sizes),
        *_about_likeness(sizes, average_styles),
        *_about_views(steady),
        *_about_confidence(sizes, confidences),
        *_about_style(cosine),
    ]


def _about_sizes(sizes: list[int]) -> list[Finding]:
    found = []
    total = sum(sizes)
    empty = [k for k, size in enumerate(sizes) if not size]
    if total and len(sizes) > 1 and max(sizes) == total:
        return [
            Finding(True, "Collapse: every picture fell into one domain. Train for longer, or start again.")
        ]
    if empty:
        some = listed([f"domain {k}" for k in empty])
        verb = "is" if len(empty) == 1 else "are"
        found.append(
            Finding(
                False,
                f"Dead domains: {some} {verb} empty. This is normal if there are more domains than kinds.",
            )
        )
    if total and len(sizes) > 1 and max(sizes) > crowded_from(len(sizes)) * total:
        share = max(sizes) / total
        found.append(
            Finding(
                True,
                f"Nearly a collapse: domain {sizes.index(max(sizes))} holds {share:.0%} of the pictures. "
                "Either they are very similar, or the model cannot tell them apart yet.",
            )
        )
    small = [k for k, size in enumerate(sizes) if 0 < size < TINY * total / len(sizes)]
    if small:
        found.append(Finding(False, f"Very few pictures fell into {listed([f'domain {k}' for k in small])}."))
    return found


def _about_likeness(sizes: list[int], styles: Tensor) -> list[Finding]:
    normed = torch.nn.functional.normalize(styles.double(), dim=1)
    cosines = normed @ normed.T
    pairs = [
        f"{i} and {j}"
        for i in range(len(sizes))
        for j in range(i + 1, len(sizes))
        if sizes[i] and sizes[j] and cosines[i, j] > ALIKE
    ]
    if not pairs:
        return []
    return [
        Finding(
            False,
            f"Nearly equal domains: the average styles of {listed(pairs)} hardly differ. "
            "They may be one kind that was split.",
        )
    ]


def _about_views(steady: float | None) -> list[Finding]:
    if steady is None or steady >= UNSTEADY:
        return []
    return [
        Finding(
            True,
            f"Domains depend on the augmentation: {1 - steady:.0%} of the pictures change their domain when they are "
            "turned, cropped or recoloured as in training. So domains follow place or light rather than kind: "
            "train for longer, or augment less.",
        )
    ]


def _about_confidence(sizes: list[int], confidences: list[float]) -> list[Finding]:
    unsure = [k for k, size in enumerate(sizes) if size and confidences[k] < UNSURE]
    if not unsure or len(sizes) < 2:
        return []
    return [
        Finding(
            False,
            f"The model is unsure of {listed([f'domain {k}' for k in unsure])} (confidence below 50 %).",
        )
    ]


def _about_style(cosine: float | None) -> list[Finding]:
    if cosine is None or cosine > 0.5:
        return []
    return [
        Finding(
            True,
            f"Translations miss their reference's style (mean cosine {cosine:.2f}): G, the network that draws them, "
            "needs more steps.",
        )
    ]


def typical_rows(
    domains: NDArray[np.int64], styles: Tensor, average_styles: Tensor, k: int, number: int
) -> NDArray[np.int64]:
    """The pictures of domain k whose style codes are nearest to its average, the nearest first."""
    rows = np.flatnonzero(domains == k)
    distances = (styles[rows] - average_styles[k]).square().sum(1).numpy()
    return rows[np.argsort(distances, kind="stable")[:number]]
