"""Warnings in plain words: each appears when it should, and only then."""

import numpy as np
import pytest
import torch

from tunit.printing import listed
from tunit.reporting.remarks import findings, typical_rows

APART = torch.eye(4)
SURE = [0.9] * 4


def texts(sizes=(5, 5, 5, 5), confidences=SURE, styles=APART, steady=1.0, cosine=0.9):
    return [f.text for f in findings(list(sizes), list(confidences), styles, steady, cosine)]


def test_a_good_model_gets_no_warning():
    assert texts() == []
    assert texts(steady=None, cosine=None) == []


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("Collapse: every picture", {"sizes": (20, 0, 0, 0)}),
        ("Dead domains: domain 1 and domain 3 are empty", {"sizes": (5, 0, 6, 0)}),
        ("Dead domains: domain 2 is empty", {"sizes": (5, 5, 0, 6)}),
        ("Nearly a collapse: domain 1 holds 80%", {"sizes": (2, 16, 1, 1)}),
        ("Very few pictures fell into domain 0", {"sizes": (1, 50, 40, 49)}),
        ("average styles of 0 and 1 hardly differ", {"styles": torch.cat([APART[:1], APART[:3]])}),
        ("Domains depend on the augmentation: 30% of the pictures", {"steady": 0.7}),
        ("unsure of domain 2", {"confidences": (0.9, 0.9, 0.3, 0.9)}),
        ("miss their reference's style (mean cosine 0.20)", {"cosine": 0.2}),
    ],
)
def test_each_warning_appears_by_itself(words, case):
    found = texts(**case)
    assert len(found) == 1
    assert words in found[0]


def test_an_empty_domain_is_neither_similar_nor_uncertain():
    styles = torch.cat([APART[:1], APART[:1], APART[2:]])
    assert texts(sizes=(5, 0, 6, 5), confidences=(0.9, 0, 0.9, 0.9), styles=styles) == [
        "Dead domains: domain 1 is empty. This is normal if there are more domains than kinds."
    ]


def test_a_single_domain_is_not_a_collapse():
    assert [f.text for f in findings([9], [1.0], torch.ones(1, 3), None, 0.9)] == []
    of_two = findings([15, 5], [1.0, 1.0], torch.eye(2), None, 0.9)
    assert of_two == []  # of two kinds, one may be much more common


def test_lists():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


def test_typical_pictures_are_nearest_to_the_average():
    styles = torch.tensor([[0.0], [5.0], [1.0], [0.4], [9.0]])
    rows = typical_rows(np.array([0, 0, 0, 0, 1]), styles, torch.tensor([[0.5], [9.0]]), 0, 3)
    assert rows.tolist() == [3, 0, 2]
