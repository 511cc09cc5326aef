"""Off-topic pictures, found by their style codes in groups that are known."""

import numpy as np
import pytest

from tunit.clustering import outliers
from tunit.clustering.outliers import outlier_scores


def test_only_codes_far_from_all_others_are_off_topic():
    """Two groups of different spread, and a few codes that are far from both and from each other."""
    rng = np.random.default_rng(0)
    tight, loose = rng.normal(size=(150, 6)), 20 + 4 * rng.normal(size=(150, 6))
    apart = 40 * np.eye(6)[:4] - 40
    scores = outlier_scores(np.concatenate([tight, loose, apart]))
    assert (scores >= 0).all() and (scores <= 1).all()
    assert (scores[-4:] > 0.5).all()
    assert (scores[:-4] > 0.5).mean() < 0.03
    assert np.median(scores) < 0.001


def test_scaling_and_shifting_do_not_change_the_result():
    codes = np.random.default_rng(0).normal(size=(60, 5))
    assert outlier_scores(7 * codes + 3) == pytest.approx(outlier_scores(codes), abs=1e-3)


def test_a_large_common_offset_does_not_change_the_result():
    """Distances in float32 from products of numbers around 300 would have hardly a correct digit."""
    codes = (np.random.default_rng(0).normal(size=(200, 16)) + 300).astype(np.float32)
    around_0 = codes.astype(np.float64) - 300  # exact
    assert outlier_scores(codes) == pytest.approx(outlier_scores(around_0), abs=1e-3)


@pytest.mark.parametrize("codes", [np.zeros((0, 4)), np.ones((11, 4)), np.ones((40, 4))])
def test_few_pictures_or_copies_have_no_outliers(codes):
    assert not outlier_scores(codes).any()


def test_copies_of_other_pictures_do_not_make_a_picture_off_topic():
    rng = np.random.default_rng(0)
    singles = rng.normal(size=(120, 6))
    singles[7] += 40  # it really is off-topic
    copies = np.repeat(singles[:20], 15, axis=0)
    order = rng.permutation(400)
    scores = np.empty(400)
    scores[order] = outlier_scores(np.concatenate([copies, singles[20:]])[order])
    assert (scores[300:] > 0.5).mean() < 0.03
    assert (scores[7 * 15 : 8 * 15] > 0.5).all()
    expected = outlier_scores(singles)
    assert scores == pytest.approx(np.concatenate([np.repeat(expected[:20], 15), expected[20:]]), abs=1e-4)


def test_many_pictures_are_compared_with_a_sample(monkeypatch):
    codes = np.random.default_rng(0).normal(size=(300, 5))
    codes[7] += 50
    monkeypatch.setattr(outliers, "MOST_COMPARED", 100)
    scores = outlier_scores(codes)
    assert scores.argmax() == 7 and scores[7] > 0.5
