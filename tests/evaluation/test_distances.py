"""FID and KID, compared with closed forms, the usual formula in scipy, and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.kid import poly_mmd

from tunit.errors import DataError
from tunit.evaluation.distances import (
    FeatureMoments,
    frechet_distance,
    frechet_distance_of,
    kernel_distance,
    squared_mmd,
)


def features(number, width, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) / width**0.5
    return torch.from_numpy(rng.normal(size=(number, width)) @ mixing + shift)


def textbook(a, b):
    """|mu - nu|^2 + tr(A + B - 2 (A B)^1/2) with scipy's general matrix root."""
    a, b = a.numpy(), b.numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root.real)


@pytest.mark.parametrize("number", [200, 40])
def test_fid_equals_the_usual_formula(number):
    a, b = features(number, 24, 1), features(number + 17, 24, 2, shift=0.3)
    expected = textbook(a, b)
    moments = frechet_distance(FeatureMoments().add(a), FeatureMoments().add(b))
    assert moments == pytest.approx(expected, rel=1e-9)
    assert frechet_distance_of(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("few", "many"), [(7, 200), (200, 7), (7, 9)])
def test_fid_with_fewer_pictures_than_features_is_real_in_both_forms(few, many):
    a, b = features(few, 24, 1), features(many, 24, 2)
    by_moments = frechet_distance(FeatureMoments().add(a), FeatureMoments().add(b))
    assert frechet_distance_of(a, b) == pytest.approx(by_moments, rel=1e-6)
    assert frechet_distance_of(a, b) == pytest.approx(frechet_distance_of(b, a), rel=1e-9)


def test_fid_of_diagonal_gaussians_equals_the_closed_form():
    # Four points at +-s on each axis have the covariance diag(2 s^2 / 3) (unbiased), in any order.
    def cross(s, t, centre):
        return torch.tensor([[s, 0.0], [-s, 0.0], [0.0, t], [0.0, -t]]) + torch.tensor(centre)

    a, b = cross(3.0, 1.0, [0.0, 0.0]), cross(1.0, 2.0, [5.0, -2.0])
    spread = sum((p - q) ** 2 * 2 / 3 for p, q in ((3, 1), (1, 2)))
    assert frechet_distance_of(a, b) == pytest.approx(29 + spread, rel=1e-9)


def test_fid_of_a_set_with_itself_and_with_a_shifted_copy():
    a = features(300, 16, 3).float()
    assert frechet_distance_of(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance_of(a.double(), a.double() + 2) == pytest.approx(16 * 4, rel=1e-9)


def test_moments_from_batches_equal_those_of_all_features():
    a = features(101, 5, 4) * 10 + 1e4
    moments = FeatureMoments()
    for part in (a[:1], a[1:50], a[50:50], a[50:]):
        moments.add(part)
    assert moments.number == 101
    np.testing.assert_allclose(moments.mean, a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(a.numpy(), rowvar=False), rtol=1e-9)


def test_kid_equals_torchmetrics_on_one_subset():
    a, b = features(60, 12, 5).float(), features(60, 12, 6, shift=0.2).float()
    expected = poly_mmd(a.double(), b.double(), degree=3, gamma=None, coef=1.0)
    assert float(squared_mmd(a.double(), b.double())) == pytest.approx(float(expected), rel=1e-9)
    kid = kernel_distance(a, b, subsets=3, subset_size=1000)
    assert (kid.subset_size, kid.subsets) == (60, 3)
    assert kid.mean == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("sizes", [(30, 30), (30, 90), (400, 300)])
def test_the_standard_error_of_kid_is_its_spread_over_samples(sizes):
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(
            torch.from_numpy(rng.normal(size=(sizes[0], 8))),
            torch.from_numpy(rng.normal(size=(sizes[1], 8)) + 0.4),
            subset_size=200,
        )
        for _ in range(60)
    ]
    spread = np.std([kid.mean for kid in found], ddof=1)
    assert 0.7 * spread < np.mean([kid.error for kid in found]) < 1.6 * spread


def test_the_standard_error_of_kid_is_right_if_one_set_is_far_larger_than_the_other():
    rng = np.random.default_rng(0)
    few = [torch.from_numpy(rng.normal(size=(20, 8)) + 2.0) for _ in range(40)]
    many = torch.from_numpy(rng.normal(size=(20_000, 8)))
    found = [kernel_distance(*sets, subset_size=100) for x in few for sets in ((many, x), (x, many))]
    spread = np.std([kid.mean for kid in found[::2]], ddof=1)
    for errors in ([kid.error for kid in found[::2]], [kid.error for kid in found[1::2]]):
        assert 0.6 * spread < np.mean(errors) < 1.6 * spread


def test_kid_is_unbiased():
    a, b = features(2000, 6, 7), features(2000, 6, 7)
    b = torch.from_numpy(np.random.default_rng(0).permutation(b.numpy()))
    values = [kernel_distance(a, b, subsets=50, subset_size=40, seed=s).mean for s in range(4)]
    assert abs(np.mean(values)) < 0.02
    assert min(values) < 0 < max(values) or np.ptp(values) < 0.05


def test_kid_by_hand():
    x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[2.0], [3.0]]).double()
    # kernel (xy + 1)^3: 1 within x, 343 within y; 1, 1, 27 and 64 between them
    assert float(squared_mmd(x, y)) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


def test_too_few_or_different_features_are_refused_with_a_sentence():
    with pytest.raises(DataError, match="at least 2 pictures"):
        frechet_distance_of(torch.zeros(1, 4), torch.zeros(9, 4))
    with pytest.raises(DataError, match="at least 4"):
        kernel_distance(torch.zeros(3, 4), torch.zeros(9, 4))
    with pytest.raises(DataError, match="width 4 and 5"):
        frechet_distance_of(torch.randn(9, 4), torch.randn(9, 5))
