"""How many pictures of a run a report uses."""

import numpy as np
import pytest
import torch

from tunit.reporting.guided import GuidedPictures, number_looked_at


@pytest.mark.parametrize(
    ("there", "side", "expected"),
    [(40, 256, 40), (10_000, 32, 5_000), (10_000, 64, 5_000), (10_000, 128, 1_250), (10_000, 512, 500)],
)
def test_of_large_pictures_fewer_are_used(there: int, side: int, expected: int) -> None:
    assert number_looked_at(there, side) == expected


def guided(classes: list[str], found: list[int], **other: bool) -> GuidedPictures:
    number = len(found)
    return GuidedPictures(
        np.zeros((number, 2, 2, 3), np.uint8),
        [f"{i}.png" for i in range(number)],
        classes,
        2,
        np.array(found),
        np.ones(number),
        torch.zeros(number, 3),
        **other,
    )


def test_pictures_without_a_class_say_nothing_about_accuracy_and_names() -> None:
    few = guided(["cat"] * 2 + ["dog"] * 2 + [""] * 16, [0, 0, 1, 0] + [1] * 16)
    assert few.accuracy == 0.75
    assert [few.common_class(k) for k in range(2)] == ["cat", "dog"]
    assert guided(["cat"] * 2 + [""] * 2, [0, 0, 1, 1]).accuracy is None  # a single class
    assert guided([""] * 2 + ["cat"] * 2, [0, 0, 1, 1]).common_class(0) == ""
    assert guided(["cat", "dog"], [0, 1], by_model=False).accuracy is None
