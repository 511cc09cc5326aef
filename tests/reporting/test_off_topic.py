"""The part of a report that shows pictures that may be off-topic."""

import re

import numpy as np
import torch

from tunit.reporting.guided import GuidedPictures
from tunit.reporting.off_topic import OffTopic, off_topic, rendered

FAR = [3, 17]  # the rows of the off-topic pictures


def guided(number: int = 40, far: list[int] = FAR) -> GuidedPictures:
    """Pictures of one scene with a little noise, but for those in `far`, which are noise in other colours."""
    rng = np.random.default_rng(1)
    scene = np.linspace(60, 190, 32 * 32 * 3).reshape(32, 32, 3)
    images = np.clip(scene + rng.normal(0, 15, (number, 32, 32, 3)), 0, 255)
    for row in far:
        images[row] = rng.integers(0, 256, (32, 32, 3)) * rng.uniform(0.2, 1, 3)
    styles = torch.randn(number, 8, generator=torch.Generator().manual_seed(0))
    return GuidedPictures(
        images.astype(np.uint8),
        [f"<b>{i}.png" for i in range(number)],
        [],
        2,
        np.arange(number) % 2,
        np.ones(number),
        styles,
    )


def test_the_pictures_with_high_scores_are_shown_with_their_names_and_domains() -> None:
    pictures = guided()
    found = off_topic(pictures)
    assert found.number == 2
    assert sorted(each.name for each in found.shown) == ["<b>17.png", "<b>3.png"]
    for each in found.shown:
        row = int(re.sub(r"\D", "", each.name))
        assert np.array_equal(each.pixels, pictures.images[row])
        assert each.domain == row % 2
        assert 0.5 <= each.score <= 1
    page = rendered(found, 40)
    assert (
        "2 of 40 pictures have an outlier score of 0.5 or more: very different from all others.</p>" in page
    )
    assert page.count("<img") == 2
    assert "&lt;b&gt;3.png (score 1.00, domain 1)" in page
    assert "<b>" not in page


def test_only_the_few_highest_scores_are_shown_of_many() -> None:
    found = off_topic(guided(400, far=list(range(0, 240, 20))))
    assert found.number == 12
    assert len(found.shown) == 10
    scores = [each.score for each in found.shown]
    assert scores == sorted(scores, reverse=True)
    page = rendered(found, 400)
    assert "12 of 400 pictures have an outlier score" in page
    assert "The 10 highest scores:" in page


def test_without_such_pictures_nothing_is_shown() -> None:
    assert off_topic(guided(far=[])) == OffTopic()
    assert rendered(OffTopic(), 40) == ""


def test_one_picture_is_one_picture() -> None:
    assert "1 of 40 pictures has an outlier score of 0.5 or more" in rendered(off_topic(guided(far=[5])), 40)
