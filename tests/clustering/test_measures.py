"""The choice of the measure that separates pictures into groups best."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from sklearn.metrics import pairwise_distances

from tunit.clustering import cues, measures
from tunit.clustering.measures import (
    choose_measures,
    distance_from_separate_groups,
    edges_of,
    modularity,
    normalised_cut,
    reduced,
    reduced_cues,
)
from tunit.clustering.neighbours import find_neighbours


def blobs(groups, each=30, width=8, apart=6.0, seed=0):
    """Gaussian groups at this distance, and the group of each vector."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(groups).repeat_interleave(each)
    centres = apart * torch.randn(groups, width, generator=generator)
    return centres[kinds] + torch.randn(len(kinds), width, generator=generator), kinds


def ring(number, k):
    """The neighbours of each picture are the next k/2 on either side. This graph has eigenvalues with a known
    formula.
    """
    offsets = [offset for step in range(1, k // 2 + 1) for offset in (step, -step)]
    return (torch.arange(number)[:, None] + torch.tensor(offsets)) % number


def test_eigenvalues_of_a_ring_match_the_formula():
    number, k, groups = 60, 4, 5
    waves = 2 * np.pi * np.arange(number) / number
    expected = np.sort(1 - (2 * np.cos(waves) + 2 * np.cos(2 * waves)) / k)[:groups].sum()
    assert distance_from_separate_groups(ring(number, k), groups) == pytest.approx(expected, abs=1e-9)


def test_an_edge_in_one_direction_counts_once():
    generator = torch.Generator().manual_seed(0)
    table = torch.stack([(i + 1 + torch.randperm(19, generator=generator)[:3]) % 20 for i in range(20)])
    edges = np.zeros((20, 20))
    for picture, others in enumerate(table.tolist()):
        for other in others:
            edges[picture, other] = edges[other, picture] = 1
    degree = edges.sum(1)
    laplacian = np.diag(degree) - edges
    values = eigh(
        laplacian, np.diag(degree), eigvals_only=True
    )  # the generalised problem has the same eigenvalues
    assert distance_from_separate_groups(table, 4) == pytest.approx(values[:4].sum(), abs=1e-9)


@pytest.mark.parametrize("groups", [2, 6, 10, 20])
def test_many_separate_parts_are_found_to_be_separate(groups):
    seen, _ = blobs(groups, each=60, apart=1000)
    assert distance_from_separate_groups(find_neighbours([seen], 10), groups) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_eigenvalues_equal_those_of_the_dense_matrix(seed):
    """Groups that are apart, that touch, and that are mixed."""
    seen, _ = blobs(10, each=30, apart=(1, 2, 3, 6, 20, 1000)[seed], seed=seed)
    table = find_neighbours([seen], 10)
    edges = edges_of(table).toarray()
    degree = edges.sum(1)
    values = eigh(np.diag(degree) - edges, np.diag(degree), eigvals_only=True)
    assert distance_from_separate_groups(table, 10) == pytest.approx(values[:10].sum(), abs=1e-6)


def test_perfect_codes_are_not_rejected_for_a_worse_cue():
    codes, _ = blobs(10, apart=20)
    worse, _ = blobs(10, apart=2, seed=3)
    names, scores = choose_measures(codes, {"colours": worse}, 10)
    assert scores["codes"] < 1e-6 < 0.05 < scores["colours"]
    assert "codes" in names


def test_modularity_equals_newmans_double_sum():
    generator = torch.Generator().manual_seed(0)
    table = torch.stack([(i + 1 + torch.randperm(19, generator=generator)[:3]) % 20 for i in range(20)])
    groups = torch.randint(3, (20,), generator=generator)
    assert modularity(edges_of(table), groups.numpy()) == pytest.approx(
        literal_modularity(table, groups), abs=1e-12
    )


def test_separate_groups_share_no_edges_but_noise_has_many():
    together, _ = blobs(4, apart=30)
    noise = torch.randn(120, 8, generator=torch.Generator().manual_seed(1))
    _, scores = choose_measures(together, {"noise": noise}, 4)
    assert scores["codes"] == pytest.approx(0, abs=1e-9)
    assert scores["noise"] > 0.5


def test_the_cue_that_separates_kinds_is_chosen_without_poor_codes():
    seen, _ = blobs(5, apart=2)  # with some edges between them
    poor = torch.randn(150, 64, generator=torch.Generator().manual_seed(1))
    other = torch.randn(150, 20, generator=torch.Generator().manual_seed(2))
    assert choose_measures(poor, {"colours": other, "outlines": seen}, 5)[0] == ["outlines"]
    assert choose_measures(seen, {"colours": other, "outlines": poor}, 5)[0] == ["codes"]


def test_both_are_taken_if_together_they_are_as_good():
    seen, _ = blobs(5)
    again, _ = blobs(5, seed=3)
    names, scores = choose_measures(seen, {"colours": again, "outlines": torch.randn(150, 9)}, 5)
    assert names == ["codes", "colours"]
    assert set(scores) == {"codes", "colours", "outlines", "codes and colours"}


def test_codes_and_a_cue_are_taken_together_if_each_separates_different_kinds():
    """Codes separate kinds 0 and 1 from 2 and 3; the cue separates 0 and 2 from 1 and 3."""
    kinds = torch.arange(4).repeat_interleave(40)
    noise = torch.randn(2, 160, 3, generator=torch.Generator().manual_seed(0))
    codes, cue = noise[0] + 7 * (kinds // 2)[:, None], noise[1] + 7 * (kinds % 2)[:, None]
    names, scores = choose_measures(codes, {"colours": cue}, 4)
    assert names == ["codes", "colours"]
    assert scores["codes and colours"] < 0.5 * min(scores["codes"], scores["colours"])


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
        shapes.append((found := cues.by_chunks(*given)).shape)
        return found

    monkeypatch.setattr(measures, "CUES", {"one": wide, "two": wide})
    monkeypatch.setattr(measures, "MOST_FITTED", 100)
    monkeypatch.setattr(measures, "by_chunks", noted)
    found = reduced_cues(np.zeros((1000, 32, 32, 3), np.uint8))
    assert [cue.shape for cue in found.values()] == [(1000, 64)] * 2
    assert shapes == [(100, 100), (1000, 64)] * 2


def test_one_picture_or_two_have_no_groups():
    assert distance_from_separate_groups(torch.tensor([[1], [0]]), 5) == 0.0


@pytest.mark.filterwarnings("error")
def test_equal_vectors_are_reduced_without_a_warning():
    assert reduced(torch.ones(70, 100)).isfinite().all()


@pytest.mark.parametrize(
    "codes, both, chosen",
    [
        (0.053, 0.075, ["codes"]),
        (0.06, 0.075, ["codes"]),
        (0.091, 0.12, ["codes"]),  # 0.005 more for each of 8 groups
        (0.093, 0.12, ["colours"]),
        (0.053, 0.054, ["codes", "colours"]),
        # Codes are clearly worse than the cue, and together they are worse than it: the cue alone.
        (0.1, 0.056, ["colours"]),
        (0.09, 0.051, ["codes", "colours"]),
        (0.03, 0.032, ["codes"]),
        (0.03, 0.03, ["codes", "colours"]),
    ],
)
def test_codes_are_preferred_to_a_cue_that_is_hardly_better(monkeypatch, codes, both, chosen):
    """As for creatures of eight kinds, two of which share their colours: 0.053 by codes and 0.052 by colours. Of
    twelve kinds of six colours, codes had 0.055, colours 0.03, and with colours E lost half of the kinds.
    """
    scores = {(1,): codes, (2,): 0.052, (3,): 0.5, (1, 2): both}
    monkeypatch.setattr(measures, "find_neighbours", lambda given, k: tuple(int(v[0, 0]) for v in given))
    monkeypatch.setattr(measures, "distance_from_separate_groups", lambda names, groups: scores[names])
    cues = {"colours": torch.full((20, 1), 2.0), "shapes": torch.full((20, 1), 3.0)}
    assert choose_measures(torch.ones(20, 1), cues, 8)[0] == chosen


def test_normalised_cut_equals_a_literal_sum():
    generator = torch.Generator().manual_seed(1)
    table = torch.stack([(i + 1 + torch.randperm(19, generator=generator)[:3]) % 20 for i in range(20)])
    groups = torch.randint(4, (20,), generator=generator)
    edges = {frozenset((i, j)) for i, others in enumerate(table.tolist()) for j in others}
    expected = 0.0
    for k in range(4):
        ends = [(i, j) for edge in edges for i, j in (tuple(edge), tuple(edge)[::-1]) if groups[i] == k]
        expected += sum(bool(groups[i] != groups[j]) for i, j in ends) / len(ends)
    assert normalised_cut(edges_of(table), groups.numpy()) == pytest.approx(expected, abs=1e-12)


def literal_modularity(table, groups):
    """Newman's double sum (PNAS 2006)."""
    edges = np.zeros((len(table),) * 2)
    for picture, others in enumerate(table.tolist()):
        edges[picture, others] = edges[others, picture] = 1
    degree, total = edges.sum(1), edges.sum()
    same = groups[:, None].numpy() == groups[None].numpy()
    return ((edges - degree[:, None] * degree[None] / total) * same).sum() / total


def test_normalised_cut_does_not_prefer_equal_sizes_as_modularity_does():
    """Parts of 40, 10 and 4 pictures without edges between them; halving the large one and merging the small ones."""
    parts = torch.arange(3).repeat_interleave(torch.tensor([40, 10, 4]))
    first = torch.tensor([0, 40, 50])[parts]
    table = torch.stack(
        [first + (torch.arange(54) - first + i) % torch.tensor([40, 10, 4])[parts] for i in (1, 2)], 1
    )
    equal = torch.where(parts == 0, (torch.arange(54) >= 20).long(), 2)
    edges, parts, equal = edges_of(table), parts.numpy(), equal.numpy()
    assert normalised_cut(edges, parts) == 0 < normalised_cut(edges, equal)
    assert modularity(edges, parts) < modularity(edges, equal)


def test_an_empty_group_counts_as_not_separated():
    table = torch.tensor([[1], [0], [3], [2]])
    assert normalised_cut(edges_of(table), np.array([0, 0, 2, 2])) == 1
