"""The words of a model's card."""

import pytest

from tunit.reporting.model_card import CardDomain, CardFacts, card


@pytest.mark.parametrize(("number", "words"), [(1, "labels of 1 kind;"), (2, "labels of 2 kinds;")])
def test_kinds_are_counted_in_words(number, words):
    facts = CardFacts(
        name="me/mine",
        licence="unknown",
        trained_on="",
        pictures=9,
        labels=number,
        image_size=32,
        method="tunit",
        source="",
        steps=1,
        began="",
        domains=[CardDomain(0, "a", 9, "")],
        evaluation=None,
        alarms=[],
    )
    assert f"9 pictures at 32 x 32 pixels, with {words} 1 step of the method tunit" in card(facts)
