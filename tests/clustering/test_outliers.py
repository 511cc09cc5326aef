"""Off-topic pictures, found by what they look like in groups that are known."""

import numpy as np
import pytest

from tunit.clustering import outliers
from tunit.clustering.cues import CUES
from tunit.clustering.outliers import (
    CERTAIN,
    HIGHEST,
    LOWEST,
    NEIGHBOURS,
    appearance,
    appearance_width,
    no_appearance,
    outlier_scores,
    unrounded_scores,
)

WIDTHS = [min(128, cue(np.zeros((1, 32, 32, 3), np.uint8)).shape[1]) for cue in CUES.values()]


def looking_like(*codes):
    """Appearances in which each cue is one of these codes (N, a few numbers); the last one stands for the rest."""
    blocks = [codes[min(i, len(codes) - 1)] for i in range(len(WIDTHS))]
    return np.concatenate(
        [
            np.pad(block, ((0, 0), (0, width - block.shape[1])))
            for block, width in zip(blocks, WIDTHS, strict=True)
        ],
        axis=1,
    ).astype(np.float32)


def literal_scores(appearances):
    """The same from the definition, in float64, for different pictures."""

    def deviations(values):
        above = values - np.median(values)
        return above / (1.4826 * np.median(np.abs(above)))

    of_cues = []
    for cue in np.split(appearances.astype(np.float64), np.cumsum(WIDTHS)[:-1], axis=1):
        distances = [
            np.sort(np.linalg.norm(cue - vector, axis=1))[1 : NEIGHBOURS + 1].mean() for vector in cue
        ]
        of_cues.append(np.clip(deviations(np.log(distances)), LOWEST, HIGHEST))
    return np.clip(deviations(np.mean(of_cues, axis=0)) / CERTAIN, 0, 1)


def test_scores_are_those_of_the_slow_program():
    rng = np.random.default_rng(0)
    random = looking_like(*(rng.normal(size=(90, 5)) for _ in WIDTHS))
    expected = literal_scores(random)
    assert 0 < expected.max() < 1
    assert unrounded_scores(random) == pytest.approx(expected, abs=1e-4)
    thousandths = 1000 * outlier_scores(random)
    assert thousandths == pytest.approx(np.round(thousandths), abs=1e-9)
    assert thousandths == pytest.approx(1000 * unrounded_scores(random), abs=0.5 + 1e-9)


def test_only_pictures_far_from_all_others_are_off_topic():
    """Two groups of different spread, and a few pictures that are far from both and from each other."""
    rng = np.random.default_rng(0)
    tight, loose = rng.normal(size=(150, 6)), 20 + 4 * rng.normal(size=(150, 6))
    apart = 400 * np.eye(6)[:4] - 400
    scores = outlier_scores(looking_like(np.concatenate([tight, loose, apart])))
    assert (scores >= 0).all() and (scores <= 1).all()
    assert (scores[-4:] > 0.5).all()
    assert (scores[:-4] > 0.5).mean() < 0.03
    assert np.median(scores) < 0.001


def test_a_plain_picture_is_off_topic_among_others():
    """Its outlines are near those of all others, because it has none; but its colours and textures are far."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for colour in ((0, 0, 0), (255, 255, 255), (250, 0, 0), (128, 128, 128)):
        pictures[5] = colour
        scores = outlier_scores(appearance(pictures))
        assert scores.argmax() == 5 and scores[5] > 0.5


def test_a_picture_that_is_unusual_in_two_cues_is_more_off_topic_than_in_one():
    rng = np.random.default_rng(0)
    codes = [rng.normal(size=(200, 6)) for _ in WIDTHS]
    for code in codes[:2]:
        code[7] *= 30
    codes[0][9] *= 300
    scores = outlier_scores(looking_like(*codes))
    assert scores[7] >= scores[9] > np.delete(scores, [7, 9]).max()


def test_photographs_among_drawings_are_off_topic():
    """Noise among pictures with one disc each, by their pixels."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    pictures = []
    for _ in range(60):
        y, x, radius = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(6, 10)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        pictures.append(
            np.where(disc[..., None], [200, 80, 60], [90, 150, 220]) + rng.integers(-9, 9, (32, 32, 3))
        )
    pictures += [rng.integers(0, 256, (32, 32, 3)) for _ in range(3)]
    scores = outlier_scores(appearance(np.array(pictures).astype(np.uint8)))
    assert (scores[-3:] > 0.5).all() and scores[-3:].min() > scores[:-3].max()
    assert (scores[:-3] > 0.5).mean() < 0.05  # the smallest or largest disc may be unusual, too


def test_scaling_and_shifting_do_not_change_the_result():
    codes = np.random.default_rng(0).normal(size=(60, 5))
    assert outlier_scores(looking_like(7 * codes + 3)) == pytest.approx(
        outlier_scores(looking_like(codes)), abs=1e-3
    )


def test_a_large_common_offset_does_not_change_the_result():
    """Distances in float32 from products of numbers around 300 would have hardly a correct digit."""
    codes = (np.random.default_rng(0).normal(size=(200, 16)) + 300).astype(np.float32)
    around_0 = codes.astype(np.float64) - 300  # exact
    assert outlier_scores(looking_like(codes)) == pytest.approx(
        outlier_scores(looking_like(around_0)), abs=1e-3
    )


@pytest.mark.parametrize("codes", [np.zeros((0, 4)), np.ones((11, 4)), np.ones((40, 4))])
def test_few_pictures_or_copies_have_no_outliers(codes):
    assert not outlier_scores(looking_like(codes)).any()


def test_a_cue_in_which_most_pictures_are_equal_says_nothing():
    """The textures of plain pictures, for example."""
    rng = np.random.default_rng(0)
    codes, equal = rng.normal(size=(100, 6)), np.zeros((100, 6))
    equal[3] = 5
    scores = outlier_scores(looking_like(codes, codes, codes, equal))
    assert np.isfinite(scores).all() and scores[3] < 0.5


def test_copies_of_other_pictures_do_not_make_a_picture_off_topic():
    rng = np.random.default_rng(0)
    singles = rng.normal(size=(120, 6))
    singles[7] += 40  # it really is off-topic
    copies = np.repeat(singles[:20], 15, axis=0)
    order = rng.permutation(400)
    scores = np.empty(400)
    scores[order] = outlier_scores(looking_like(np.concatenate([copies, singles[20:]])[order]))
    assert (scores[300:] > 0.5).mean() < 0.03
    assert (scores[7 * 15 : 8 * 15] > 0.5).all()
    expected = outlier_scores(looking_like(singles))
    assert scores == pytest.approx(np.concatenate([np.repeat(expected[:20], 15), expected[20:]]), abs=1e-4)


def test_copies_look_the_same_in_batches_of_any_size():
    pictures = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    whole = appearance(pictures)
    assert whole.shape == (70, appearance_width()) == (70, sum(WIDTHS))
    assert no_appearance().shape == (0, appearance_width())
    parts = [appearance(pictures[some]) for some in (slice(0, 1), slice(1, 6), slice(6, 70))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_projected_cues_keep_distances():
    pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    narrow = np.split(appearance(pictures), np.cumsum(WIDTHS)[:-1], axis=1)
    for cue, found in zip(CUES.values(), narrow, strict=True):
        full = cue(pictures)
        for one, other in ((0, 1), (2, 3), (4, 5), (6, 7)):
            distance = np.linalg.norm(full[one] - full[other])
            assert np.linalg.norm(found[one] - found[other]) == pytest.approx(distance, rel=0.25)


def test_many_pictures_are_compared_with_a_sample(monkeypatch):
    codes = np.random.default_rng(0).normal(size=(300, 5))
    codes[7] += 50
    monkeypatch.setattr(outliers, "MOST_COMPARED", 100)
    scores = outlier_scores(looking_like(codes))
    assert scores.argmax() == 7 and scores[7] > 0.5
