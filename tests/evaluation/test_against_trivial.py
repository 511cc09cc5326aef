"""Domains compared with trivial baselines: figures against scikit-learn, and the sentence for every result."""

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from tunit.evaluation import trivial
from tunit.evaluation.against_trivial import OURS, SAME, compare_with_trivial, needed

COLOURS = np.array([(230, 20, 20), (20, 230, 20), (20, 20, 230)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Random features take long and are not needed here."""
    baselines = {name: trivial.BASELINES[name] for name in ("pixels", "colours")}
    monkeypatch.setattr(trivial, "BASELINES", baselines)


def coloured(number=90):
    """Pictures of a single colour out of three, and the index of each picture's colour."""
    colour = np.arange(number) % 3
    rng = np.random.default_rng(0)
    noise = rng.integers(-9, 9, (number, 4, 4, 3))
    return np.clip(COLOURS[colour][:, None, None, :] + noise, 0, 255).astype(np.uint8), colour


def test_if_colours_are_the_classes_they_beat_worse_domains():
    images, classes = coloured()
    domains = np.random.default_rng(1).integers(0, 3, len(classes))
    found = compare_with_trivial(images, domains, classes, 3)
    assert found.rows["k-means on colours"]["accuracy"] == 1
    agreement = normalized_mutual_info_score(domains, classes)  # k-means on colours finds exactly the classes
    assert found.rows["k-means on pixels"]["agreement"] == pytest.approx(agreement)
    assert found.rows[OURS]["NMI"] == pytest.approx(agreement)
    assert found.verdict.startswith("Training was not worth it yet: 0.")
    assert "1.00 by k-means on" in found.verdict


def test_domains_that_find_more_than_colours_are_better():
    images, colour = coloured()
    classes = np.random.default_rng(1).integers(0, 3, len(colour))
    found = compare_with_trivial(images, (classes + 1) % 3, classes, 3)
    assert found.rows[OURS] == {"accuracy": 1.0, "NMI": pytest.approx(1)}
    assert found.verdict.startswith("Training was worth it: 1.00 of the pictures")


def test_no_clear_difference_is_reported():
    images, classes = coloured()
    domains = classes.copy()
    domains[:2] = (domains[:2] + 1) % 3
    assert compare_with_trivial(images, domains, classes, 3).verdict.startswith(
        "Training was hardly worth it yet"
    )
    assert "no clear difference" in compare_with_trivial(images, classes, classes, 3).verdict


def test_without_labels_agreement_is_reported():
    images, colour = coloured()
    unknown = np.full(len(colour), -1)
    same = compare_with_trivial(images, (colour + 1) % 3, unknown, 3)
    assert set(same.rows) == {"k-means on pixels", "k-means on colours"}
    assert same.rows["k-means on pixels"] == {"agreement": pytest.approx(1)}
    assert "finds largely the same groups" in same.verdict
    other = compare_with_trivial(images, np.random.default_rng(1).integers(0, 3, len(colour)), unknown, 3)
    assert "without labels this cannot be measured" in other.verdict
    assert "one domain" in compare_with_trivial(images, np.zeros(90, np.int64), unknown, 3).verdict


def test_unlabelled_pictures_are_ignored_and_many_are_sampled():
    images, classes = coloured()
    partly = np.where(np.arange(90) < 60, classes, -1)
    assert compare_with_trivial(images, classes, partly, 3).pictures == 60
    assert compare_with_trivial(images, classes, classes, 3, most=40).pictures == 40
    assert compare_with_trivial(images, classes, classes, 1).verdict == ""


@pytest.mark.parametrize("known", [True, False])
def test_too_few_pictures_are_not_judged(known):
    images, colour = coloured(30)
    domains = np.zeros(30, np.int64)
    classes = colour if known else np.full(30, -1)
    few = compare_with_trivial(images[:29], domains[:29], classes[:29], 3)
    what = "pictures with a class" if known else "pictures"
    assert few.verdict.startswith(f"No verdict: 29 {what} are too few to judge 3 domains (it takes 30)")
    assert few.rows  # the figures are there all the same
    assert compare_with_trivial(images, domains, classes, 3).verdict.startswith(
        "Training was not worth it yet"
    )


def test_where_a_verdict_is_given_random_groups_are_not_the_same():
    rng = np.random.default_rng(0)
    for number in (2, 4, 10, 50, 100, 200):
        by_chance = [
            normalized_mutual_info_score(*rng.integers(0, number, (2, needed(number)))) for _ in range(12)
        ]
        assert max(by_chance) < SAME


def test_many_domains_are_judged_by_as_many_pictures_as_that_takes(monkeypatch):
    """A large set is thinned, but not below the number of pictures that a verdict needs."""
    monkeypatch.setattr(
        trivial, "BASELINES", {"chance": lambda pictures, number, seed: np.arange(len(pictures)) % 7}
    )
    images, unknown = np.zeros((2001, 2, 2, 3), np.uint8), np.full(2001, -1)
    found = compare_with_trivial(images, np.arange(2001) % 75, unknown, 75)
    assert found.pictures == 2000
    assert not found.verdict.startswith("No verdict")
    images, unknown = np.zeros((9001, 2, 2, 3), np.uint8), np.full(9001, -1)
    found = compare_with_trivial(images, np.arange(9001) % 150, unknown, 150)
    assert found.pictures == needed(150) == 4500
    assert not found.verdict.startswith("No verdict")
