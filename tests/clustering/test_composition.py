"""How far pictures share a composition: an analysis of variance, and sets whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway

from tunit.clustering.composition import (
    CLOSE,
    MOST_COMPARED,
    SHARED,
    WHOLE,
    crop_area_for,
    explained_by_place,
    shared_composition,
)
from tunit.data.creatures.factors import sample_creatures
from tunit.data.creatures.picture_set import draw_all


@pytest.fixture(scope="module")
def creatures():
    return draw_all(sample_creatures(60, 3), 32, 1)[0]


def heaps(number, seed=0):
    """Pictures that look alike everywhere: windows, at random places, of one large random texture."""
    rng = np.random.default_rng(seed)
    rough = torch.from_numpy(rng.random((1, 3, 100, 100)))
    texture = torch.nn.functional.interpolate(rough, scale_factor=4, mode="bicubic")[0].clamp(0, 1)
    pixels = (texture.permute(1, 2, 0) * 255).byte().numpy()
    return np.stack([pixels[y : y + 32, x : x + 32] for y, x in rng.integers(0, 368, (number, 2))])


def test_the_share_is_epsilon_squared_of_an_analysis_of_variance():
    """For a single number per place, scipy's F = MSB / MSW gives the same value."""
    values = np.random.default_rng(0).normal(size=(40, 5)) + np.array([0, 0.5, 0, -0.2, 1.0])
    f, between, within = f_oneway(*values.T).statistic, 4, 40 * 5 - 5
    expected = between * (f - 1) / (between * f + within)
    assert explained_by_place(values[:, :, None]) == pytest.approx(expected, rel=1e-9)


def test_several_numbers_count_with_their_variances():
    rng = np.random.default_rng(1)
    only_place = np.broadcast_to(np.array([[[-3.0], [3.0]]]), (50, 2, 1))
    only_picture = np.broadcast_to(rng.normal(size=(50, 1, 1)), (50, 2, 1))
    both = explained_by_place(np.concatenate([only_place, only_picture], axis=2))
    assert both == pytest.approx(9 / (9 + only_picture.var()), abs=0.02)
    assert explained_by_place(only_place) == 1
    assert explained_by_place(np.zeros((3, 2, 1))) == 0


def test_without_an_effect_of_the_place_the_share_is_0_on_average_even_for_few_pictures():
    rng = np.random.default_rng(2)
    few = [explained_by_place(rng.normal(size=(6, 5, 3))) for _ in range(2000)]
    assert np.mean(few) == pytest.approx(0, abs=0.01)


def test_one_thing_per_picture_is_a_composition_though_it_is_not_always_in_the_middle():
    """Upright ellipses of any size and colour whose middle is anywhere in the middle half of the picture."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    images = np.empty((300, 32, 32, 3))
    for image in images:
        (across, down), width = rng.uniform(8, 24, 2), rng.uniform(4, 8)
        inside = ((x - across) / width) ** 2 + ((y - down) / (1.3 * width)) ** 2 < 1
        image[:] = np.where(inside[..., None], rng.uniform(0, 255, 3), rng.uniform(0, 255, 3))
    images = (images + rng.normal(0, 8, images.shape)).clip(0, 255).astype(np.uint8)
    assert crop_area_for(images) == WHOLE


def test_things_share_a_composition_and_heaps_do_not(creatures):
    assert shared_composition(creatures) > 3 * SHARED
    assert abs(shared_composition(heaps(400))) < SHARED / 3
    assert (crop_area_for(creatures), crop_area_for(heaps(400))) == (WHOLE, CLOSE)


def test_the_size_of_the_pictures_hardly_matters(creatures):
    larger = creatures.repeat(4, axis=1).repeat(4, axis=2)
    assert shared_composition(larger) == pytest.approx(shared_composition(creatures), abs=1e-6)


def test_odd_sets_have_an_answer(creatures):
    assert shared_composition(creatures[:1]) == shared_composition(creatures[:0]) == 0
    assert shared_composition(np.zeros((20, 32, 32, 3), np.uint8)) == 0
    assert shared_composition(np.repeat(creatures[:1], 20, axis=0)) == pytest.approx(1)


def test_a_large_set_is_sampled_evenly(creatures):
    repeated = np.tile(creatures, (2 * MOST_COMPARED // len(creatures) + 1, 1, 1, 1))
    seen = []

    class Watched(np.ndarray):
        def __getitem__(self, rows):
            seen.append(np.asarray(rows))
            return np.asarray(super().__getitem__(rows))

    assert shared_composition(repeated.view(Watched)) > 3 * SHARED
    rows = np.concatenate(seen)
    assert len(rows) <= MOST_COMPARED and len(set(np.diff(rows))) == 1 and rows[-1] > 0.99 * len(repeated)
