"""Density, coverage, precision and recall, compared with the prdc package and with values computed by hand. The size
of blocks must not matter.
"""

import numpy as np
import pytest
import torch
from prdc import compute_prdc

from tunit.errors import DataError
from tunit.evaluation.density_coverage import _Factors, neighbourhoods, squared_radii


def means(near):
    return {
        name: float(getattr(near, name).double().mean())
        for name in ("precision", "recall", "density", "coverage")
    }


@pytest.mark.parametrize(
    ("reals", "fakes", "k", "shift"), [(150, 130, 5, 0.4), (90, 200, 3, 1.0), (60, 7, 5, 0.0)]
)
def test_equal_to_prdc(reals, fakes, k, shift):
    rng = np.random.default_rng(reals)
    real = rng.normal(size=(reals, 16)).astype(np.float32)
    fake = (rng.normal(size=(fakes, 16)) * 0.9 + shift).astype(np.float32)
    expected = compute_prdc(real, fake, nearest_k=k)
    for rows in (1024, 32, 7):
        found = means(neighbourhoods(torch.from_numpy(real), torch.from_numpy(fake), k=k, rows=rows))
        assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-9)


def test_features_far_from_the_origin_keep_their_neighbours():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(120, 8)), rng.normal(size=(100, 8)) + 0.3
    expected = compute_prdc(real, fake, nearest_k=5)
    moved = [torch.from_numpy((x + 500).astype(np.float32)) for x in (real, fake)]
    assert means(neighbourhoods(*moved)) == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=0.011
    )


def test_by_hand_on_a_line():
    real = torch.tensor([[0.0], [1.0], [3.0]]).double()
    fake = torch.tensor([[0.5], [10.0]]).double()
    # With k = 1 the real balls are (centre 0, radius 1), (1, 1) and (3, 2). 0.5 lies in the first two, 10 in none.
    # The nearest fake of 0 and of 1 is inside their balls; that of 3 is 2.5 away. The fakes' balls (0.5, 9.5) and
    # (10, 9.5) contain all reals.
    near = neighbourhoods(real, fake, k=1)
    assert near.density.tolist() == [2, 0]
    assert near.coverage.tolist() == [1, 1, 0]
    assert near.precision.tolist() == [1, 0]
    assert near.recall.tolist() == [1, 1, 1]


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_radii_do_not_depend_on_the_block_size(rows):
    x = torch.randn(23, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    expected = distances.sort(1).values[:, 3]
    np.testing.assert_allclose(squared_radii(_Factors(x), 3, rows), expected, rtol=1e-9)


def test_without_recall_a_few_fakes_are_enough():
    real = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    near = neighbourhoods(real, real[:2] + 1e-3, recall=False)
    assert near.recall is None
    assert near.precision.tolist() == [1, 1]


def test_identical_features_have_balls_of_radius_0():
    same = torch.ones(12, 3)
    assert means(neighbourhoods(same, same)) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_too_few_features_are_refused_with_a_sentence():
    with pytest.raises(
        DataError, match="5 real pictures are too few for the 5 nearest neighbours: give at least 6"
    ):
        neighbourhoods(torch.zeros(5, 3), torch.zeros(50, 3))
    with pytest.raises(DataError, match="4 generated pictures"):
        neighbourhoods(torch.zeros(50, 3), torch.zeros(4, 3))
