import colorsys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tunit.clustering import cues
from tunit.evaluation import trivial


def flat_pictures(colours, number=12, side=8, noise=6, seed=0):
    """`number` noisy pictures of each colour, and the index of each picture's colour."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(colours)), number)
    means = np.array(colours)[kinds][:, None, None, :]
    return np.clip(means + rng.integers(-noise, noise + 1, (len(kinds), side, side, 3)), 0, 255).astype(
        np.uint8
    ), kinds


@pytest.mark.parametrize("name", ["pixels", "colours", "HSV colours", "shapes", "random features"])
def test_clearly_different_colours_are_separated_and_results_depend_on_the_seed(name):
    baseline = trivial.BASELINES[name]
    images, kinds = flat_pictures([(250, 10, 10), (10, 240, 10), (20, 20, 250), (200, 200, 200)])
    found = baseline(images, 4, 0)
    assert found.dtype == np.int64 and found.shape == (48,)
    assert adjusted_rand_score(found, kinds) == 1
    assert (baseline(images, 4, 0) == found).all()


@pytest.mark.parametrize("name", ["outlines", "textures"])
def test_stripe_directions_are_separated_in_any_colours(name):
    rng = np.random.default_rng(0)
    stripes = np.indices((32, 32)) // 2 % 2  # horizontal stripes, vertical stripes
    patterns = [stripes[0], stripes[1], stripes[0] ^ stripes[1]]
    kinds = np.repeat(np.arange(3), 12)
    colours = rng.integers(60, 250, (36, 1, 1, 3))
    images = (np.stack([patterns[kind] for kind in kinds])[..., None] * colours).astype(np.uint8)
    found = trivial.BASELINES[name](images, 3, 0)
    assert adjusted_rand_score(found, kinds) == 1
    assert adjusted_rand_score(trivial.BASELINES["colours"](images, 3, 0), kinds) < 0.3


def test_colour_features_ignore_positions_and_pixel_features_do_not():
    left = np.zeros((20, 16, 16, 3), np.uint8)
    left[:, :, :8] = 255
    images = np.concatenate([left, left[:, :, ::-1]])
    sides = np.repeat([0, 1], 20)
    assert adjusted_rand_score(trivial.BASELINES["pixels"](images, 2, 0), sides) == 1
    assert len(np.unique(trivial.BASELINES["colours"](images, 2, 0))) == 1


@pytest.mark.parametrize("baseline", trivial.BASELINES.values(), ids=trivial.BASELINES.keys())
def test_few_identical_and_no_pictures(baseline):
    images, _ = flat_pictures([(200, 0, 0)], number=3)
    assert set(baseline(images, 10, 0)) <= {0, 1, 2}
    assert (baseline(images, 1, 2**40) == 0).all()
    assert baseline(images[:0], 3, 0).shape == (0,)
    with pytest.raises(ValueError, match="at least 1"):
        baseline(images, 0, 0)


def test_many_pictures_are_assigned_to_centres_from_a_sample(monkeypatch):
    images, kinds = flat_pictures([(250, 10, 10), (10, 240, 10)], number=50)
    monkeypatch.setattr(trivial, "MOST_FITTED", 30)
    monkeypatch.setattr(cues, "CHUNK", 7)
    assert adjusted_rand_score(trivial.BASELINES["pixels"](images, 2, 0), kinds) == 1


def test_hue_saturation_value_bins_match_the_standard_library():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3000, 3), dtype=np.uint8)
    rgb[:300] = rgb[:300] // 64 * 85  # greys, pure colours, corners
    expected = []
    for red, green, blue in rgb.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        tiny = 1e-9  # we compute bin edges with whole numbers; colorsys rounds
        parts = int(hue * 12 + tiny) % 12, min(int(saturation * 4 + tiny), 3), min(int(value * 4 + tiny), 3)
        expected.append((parts[0] * 4 + parts[1]) * 4 + parts[2])
    assert trivial.hsv_bins(rgb).tolist() == expected


def test_the_histogram_of_a_picture_with_two_colours():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :, :3] = 255, 0, 0  # pure red: hue bin 0, saturation 3, value 3
    shares = trivial.hsv_shares(image)
    assert shares.shape == (1, 192)
    assert shares[0, 15] == 0.75 and shares[0, 0] == 0.25  # red; black
    assert shares.sum() == 1


def test_the_colours_of_a_larger_picture_are_sampled():
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    assert (trivial.hsv_shares(images) == trivial.hsv_shares(images[:, ::2, ::2])).all()
