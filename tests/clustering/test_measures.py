"""The choice of the measures that separate pictures into groups best."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances

from gaussian_groups import blobs
from tunit.clustering import cues, measures
from tunit.clustering.measures import choose_measures, reduced, reduced_cues


def test_perfect_codes_are_not_rejected_for_a_worse_cue():
    codes, _ = blobs(10, apart=20)
    worse, _ = blobs(10, apart=2, seed=3)
    names, ratios = choose_measures(codes, {"colours": worse}, [10])
    assert ratios["codes"] < 1e-6 < 0.05 < ratios["colours"]
    assert "codes" in names


def test_separate_groups_share_no_edges_but_noise_has_many():
    together, _ = blobs(4, apart=30)
    noise = torch.randn(120, 8, generator=torch.Generator().manual_seed(1))
    _, ratios = choose_measures(together, {"noise": noise}, [4])
    assert ratios["codes"] == pytest.approx(0, abs=1e-9)
    assert ratios["noise"] > 0.5


def test_the_cue_that_separates_kinds_is_chosen_without_poor_codes():
    seen, _ = blobs(5, apart=2)  # with some edges between them
    poor = torch.randn(150, 3, generator=torch.Generator().manual_seed(1))
    other = torch.randn(150, 4, generator=torch.Generator().manual_seed(2))
    assert choose_measures(poor, {"colours": other, "outlines": seen}, [5])[0] == ["outlines"]
    assert choose_measures(seen, {"colours": other, "outlines": poor}, [5])[0] == ["codes"]


@pytest.mark.parametrize(("name", "chosen"), [("colours", ["codes"]), ("outlines", ["outlines"])])
def test_vague_groups_of_colours_are_not_believed(name, chosen):
    """They are clearer than those of the codes, but colours may be those of backgrounds."""
    vague, _ = blobs(5, apart=1.6)
    poor = torch.randn(150, 3, generator=torch.Generator().manual_seed(1))
    names, ratios = choose_measures(poor, {name: vague}, [5])
    assert names == chosen
    assert 0.15 < ratios[name] < 0.7 * ratios["codes"]


def test_both_are_taken_if_together_they_are_as_good():
    seen, _ = blobs(5)
    again, _ = blobs(5, seed=3)
    noise = torch.randn(150, 9, generator=torch.Generator().manual_seed(1))
    names, ratios = choose_measures(seen, {"colours": again, "outlines": noise}, [5])
    assert names == ["codes", "colours"]
    # Outlines alone are clearly worse already by the ratio that is found first.
    assert set(ratios) == {"codes", "colours", "colours and outlines", "codes and colours"}


def test_codes_and_a_cue_are_taken_together_if_each_separates_different_kinds():
    """Codes separate kinds 0 and 1 from 2 and 3; the cue separates 0 and 2 from 1 and 3."""
    kinds = torch.arange(4).repeat_interleave(40)
    noise = torch.randn(2, 160, 3, generator=torch.Generator().manual_seed(0))
    codes, cue = noise[0] + 7 * (kinds // 2)[:, None], noise[1] + 7 * (kinds % 2)[:, None]
    names, ratios = choose_measures(codes, {"colours": cue}, [4])
    assert names == ["codes", "colours"]
    assert ratios["codes and colours"] < 0.5 * min(ratios["codes"], ratios["colours"])


def test_reduced_vectors_keep_the_large_distances():
    seen, _ = blobs(5, width=10)
    wide = torch.cat([seen, torch.zeros(150, 290)], 1) @ torch.linalg.qr(torch.randn(300, 300))[0]
    found = reduced(wide, 16)
    assert found.shape == (150, 16)
    error = pairwise_distances(found.numpy()) - pairwise_distances(seen.numpy())
    assert np.abs(error).max() < 1e-3
    assert reduced(seen, 16) is not None and torch.equal(reduced(seen, 16), seen)


@pytest.mark.parametrize("chosen", [None, np.arange(0, 300, 2)])
def test_reduced_cues_equal_cues_that_are_computed_in_full_first(monkeypatch, chosen):
    images = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    for most in (70, 1000):
        monkeypatch.setattr(measures, "MOST_FITTED", most)
        found = reduced_cues(images, chosen)
        for name, cue in cues.CUES.items():
            expected = reduced(torch.from_numpy(cues.by_chunks(cue, images, chosen)))
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
            assert most == 70 or torch.equal(found[name], expected)


def test_only_the_pictures_that_components_are_fitted_to_have_a_cue_in_full(monkeypatch):
    """Of a million pictures, the widest cue has 12 GB."""
    shapes = []

    def wide(images):
        return np.random.default_rng(len(images)).random((len(images), 100), dtype=np.float32)

    def noted(*given):
        found = cues.each_by_chunks(*given)
        shapes.append([of_cue.shape for of_cue in found.values()])
        return found

    monkeypatch.setattr(measures, "CUES", {"one": wide, "two": wide})
    monkeypatch.setattr(measures, "MOST_FITTED", 100)
    monkeypatch.setattr(measures, "each_by_chunks", noted)
    found = reduced_cues(np.zeros((1000, 32, 32, 3), np.uint8))
    assert [cue.shape for cue in found.values()] == [(1000, 64)] * 2
    assert shapes == [[(100, 100)] * 2, [(1000, 64)] * 2]


@pytest.mark.filterwarnings("error")
def test_equal_vectors_are_reduced_without_a_warning():
    assert reduced(torch.ones(70, 100)).isfinite().all()


@pytest.mark.parametrize(
    "codes, both, chosen",
    [
        (0.053, 0.075, ["codes"]),
        (0.06, 0.075, ["codes"]),
        (0.199, 0.3, ["codes"]),
        (0.201, 0.3, ["colours"]),
        (0.053, 0.054, ["codes", "colours"]),
        # Codes are clearly worse than the cue, and together they are worse than it: the cue alone.
        (0.25, 0.056, ["colours"]),
        (0.25, 0.051, ["codes", "colours"]),
        (0.03, 0.032, ["codes"]),
        (0.03, 0.03, ["codes", "colours"]),
    ],
)
def test_codes_are_preferred_to_a_cue_that_is_hardly_better(monkeypatch, codes, both, chosen):
    """As for creatures of eight kinds, two of which share their colours. Of twelve kinds of six colours, codes had a
    ratio of 0.1, colours 0.03, and with colours E lost half of the kinds.
    """
    ratios = {(1,): codes, (2,): 0.052, (3,): 0.5, (1, 2): both, (2, 3): 0.3, (1, 3): 0.3}
    cues = {"colours": torch.full((20, 1), 2.0), "shapes": torch.full((20, 1), 3.0)}
    assert chosen_with(monkeypatch, ratios, cues) == chosen


@pytest.mark.parametrize(
    "two, chosen", [(0.09, ["colours", "shapes"]), (0.091, ["colours"]), (0.3, ["colours"])]
)
def test_two_cues_are_taken_if_they_are_clearly_better_than_one(monkeypatch, two, chosen):
    ratios = {(1,): 0.9, (2,): 0.1001, (3,): 0.2, (2, 3): two, (1, 2): 0.5, (1, 2, 3): 0.5}
    cues = {"colours": torch.full((20, 1), 2.0), "shapes": torch.full((20, 1), 3.0)}
    assert chosen_with(monkeypatch, ratios, cues) == chosen


def test_clear_codes_are_not_preferred_to_another_cue_than_colours(monkeypatch):
    ratios = {(1,): 0.1, (2,): 0.5, (3,): 0.03, (1, 2): 0.3, (1, 3): 0.05, (2, 3): 0.3}
    cues = {"colours": torch.full((20, 1), 2.0), "shapes": torch.full((20, 1), 3.0)}
    assert chosen_with(monkeypatch, ratios, cues) == ["shapes"]


@pytest.mark.parametrize("with_shapes, chosen", [(0.08, ["codes", "shapes"]), (0.095, ["codes"])])
def test_another_cue_joins_codes_that_it_makes_clearer(monkeypatch, with_shapes, chosen):
    """Colours see fewer kinds more clearly, shapes see them less clearly, but tell apart two that codes mix."""
    ratios = {(1,): 0.1, (2,): 0.03, (3,): 0.3, (1, 2): 0.11, (1, 3): with_shapes, (2, 3): 0.2}
    cues = {"colours": torch.full((20, 1), 2.0), "shapes": torch.full((20, 1), 3.0)}
    assert chosen_with(monkeypatch, ratios, cues) == chosen


def chosen_with(monkeypatch, ratios, cues):
    """The chosen measures if codes are ones, and the ratio of measures is found by their first numbers."""
    chance = measures.GroupsByChance
    monkeypatch.setattr(chance, "separation", lambda self, given: tuple(int(v[0, 0]) for v in given))
    monkeypatch.setattr(chance, "ratio_by_dimension", lambda self, found: ratios[found])
    monkeypatch.setattr(chance, "ratio_by_covariance", lambda self, found: 0.0)
    return choose_measures(torch.ones(20, 1), cues, [8])[0]


def test_the_smallest_ratio_is_found_without_all_that_cannot_be_smaller(monkeypatch):
    """Each ratio is the larger one of two, of which the second takes longer to find."""
    found = []
    by_dimension, by_covariance = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.5}, {1: 0.6, 2: 0.3, 3: 0.35, 4: 0.1}

    def slower(self, number):
        found.append(number)
        return by_covariance[number]

    chance = measures.GroupsByChance
    monkeypatch.setattr(chance, "separation", lambda self, given: int(given[0][0, 0]))
    monkeypatch.setattr(chance, "ratio_by_dimension", lambda self, number: by_dimension[number])
    monkeypatch.setattr(chance, "ratio_by_covariance", slower)
    compared = measures.MeasureComparison({str(i): torch.full((20, 1), float(i)) for i in (4, 3, 2, 1)}, [3])
    assert compared.smallest([str(i)] for i in (4, 3, 2, 1)) == ["2"]
    assert (sorted(found), compared.ratios) == ([1, 2], {"1": 0.6, "2": 0.3})
