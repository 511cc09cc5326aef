"""The pictures of a run that may be off-topic, for the report: those that look very different from all others."""

from dataclasses import dataclass

import numpy as np

from tunit.clustering.outliers import OFF_TOPIC, appearance, outlier_scores
from tunit.pages.document import short_name
from tunit.pages.embedded import img
from tunit.printing import escape
from tunit.reporting.guided import GuidedPictures, Pictures

SHOWN = 10  # pictures, those with the highest scores


@dataclass(frozen=True)
class Outlier:
    """A picture that may be off-topic, with its domain and outlier score."""

    name: str
    pixels: Pictures
    domain: int
    score: float


@dataclass(frozen=True)
class OffTopic:
    """How many pictures may be off-topic, and the few with the highest scores, the highest first."""

    number: int = 0
    shown: tuple[Outlier, ...] = ()


def off_topic(guided: GuidedPictures) -> OffTopic:
    """The pictures with an outlier score of OFF_TOPIC or more."""
    scores = outlier_scores(appearance(guided.images))
    order = np.argsort(-scores, kind="stable")
    rows = [int(i) for i in order if scores[i] >= OFF_TOPIC]
    shown = (
        Outlier(guided.names[i], guided.images[i], int(guided.found[i]), float(scores[i]))
        for i in rows[:SHOWN]
    )
    return OffTopic(len(rows), tuple(shown))


def rendered(found: OffTopic, looked: int) -> str:
    """A part of the section about domains; empty if no picture may be off-topic. looked: the number of pictures."""
    if not found.number:
        return ""
    pictures = "".join(
        img(each.pixels, f"may be off-topic, score {each.score:.2f}: {short_name(each.name)}")
        for each in found.shown
    )
    names = "; ".join(
        f"{escape(short_name(each.name))} (score {each.score:.2f}, domain {each.domain})"
        for each in found.shown
    )
    verb = "has" if found.number == 1 else "have"
    first = f" The {len(found.shown)} highest scores:" if found.number > len(found.shown) else ""
    return (
        '<article class="domain" id="off-topic"><h3>Perhaps off-topic</h3>'
        f'<p class="meta">{found.number:,} of {looked:,} pictures {verb} an outlier score of {OFF_TOPIC:g} or more: '
        f"very different from all others.{first}</p>"
        f'<div class="strip">{pictures}</div><p class="fine">{names}</p></article>'
    )
