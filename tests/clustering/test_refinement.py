"""A division is improved by splitting one group and merging two others, and by moving single pictures."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from gaussian_groups import blobs
from tunit.clustering import refinement
from tunit.clustering.graph import edges_of, modularity, normalised_cut
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.refinement import (
    CLEARLY_BETTER,
    Quality,
    best_refined,
    corrected,
    corrections,
    half_of,
    quality,
    quality_after_mergers,
    refined,
    splits_of_graphs,
)


def of_groups(graphs, groups):
    """The quality of a division, computed from all edges."""
    edges = [edges_of(graph) for graph in graphs]
    return Quality(
        sum(modularity(each, groups) for each in edges), sum(normalised_cut(each, groups) for each in edges)
    )


def test_quality_and_mergers_are_those_of_the_graphs():
    rng = np.random.default_rng(0)
    graphs = [
        torch.from_numpy(rng.permuted(np.tile(np.arange(40), (40, 1)), axis=1)[:, :4]) for _ in range(2)
    ]
    groups = np.concatenate([np.arange(6), rng.integers(6, size=34)])
    edges = [edges_of(graph) for graph in graphs]
    assert quality(edges, groups) == pytest.approx(of_groups(graphs, groups), rel=1e-12)
    modularities, cuts = quality_after_mergers(edges, groups)
    for i in range(6):
        for j in range(6):
            merged = np.where(groups == j, i, groups)
            merged = np.where(merged > j, merged - 1, merged)
            expected = of_groups(graphs, merged) if i < j else (-np.inf, np.inf)
            assert (modularities[i, j], cuts[i, j]) == pytest.approx(expected, rel=1e-12)


def test_a_group_without_pictures_counts_as_a_cut_of_1():
    graph = torch.tensor([[1], [0], [3], [2]])
    assert quality([edges_of(graph)], np.array([0, 0, 2, 2])) == pytest.approx((0.5, 1.0))


@pytest.mark.parametrize("seed", range(3))
def test_two_merged_kinds_and_a_split_one_are_put_right(seed):
    codes, kinds = blobs(6, each=40, seed=seed)
    kinds = kinds.numpy()
    wrong = np.where(kinds == 1, 0, kinds)  # 0 and 1 are merged
    wrong[(kinds == 2) & (np.arange(len(kinds)) % 2 == 0)] = 1  # 2 is split
    graph = find_neighbours([codes], 10)
    noise = np.random.default_rng(seed).standard_normal((len(codes), 3))
    for vectors in (
        [codes.numpy()],
        [noise, codes.numpy()],
        [],
    ):  # without vectors: split by the graphs alone
        found = refined([graph, graph], wrong, vectors, 0)
        assert adjusted_rand_score(found, kinds) == 1
        assert set(found) == set(range(6))


def test_two_groups_that_divide_two_kinds_the_wrong_way_are_put_right():
    """Each group holds a part of both kinds: one is split, and its halves go to different groups."""
    codes, kinds = blobs(4, each=60)
    kinds = kinds.numpy()
    wrong = kinds.copy()
    wrong[(kinds == 0) & (codes[:, 0].numpy() > np.quantile(codes[:, 0].numpy()[kinds == 0], 0.7))] = 1
    wrong[(kinds == 1) & (codes[:, 0].numpy() < np.quantile(codes[:, 0].numpy()[kinds == 1], 0.4))] = 0
    assert adjusted_rand_score(wrong, kinds) < 0.8
    assert adjusted_rand_score(refined([find_neighbours([codes], 10)], wrong, [codes.numpy()], 0), kinds) == 1


@pytest.mark.parametrize("sizes", [(40, 60), (200, 300)])  # with all eigenvectors, and with only the largest
def test_a_graph_is_split_where_the_fewest_edges_are(sizes):
    """Two parts that are joined by one edge, and by none."""
    rng = np.random.default_rng(0)
    first = np.arange(sum(sizes)) < sizes[0]
    near = [rng.choice(np.flatnonzero(first == one), 6, replace=False) for one in first]
    for bridge in (sizes[0], 1):  # a picture of the second part, or of the first
        near[0][0] = bridge
        half = half_of(edges_of(torch.from_numpy(np.array(near))))
        assert np.array_equal(half, first) or np.array_equal(half, ~first)


def test_the_split_has_the_smallest_normalised_cut_along_the_eigenvector():
    rng = np.random.default_rng(1)
    edges = edges_of(find_neighbours([torch.from_numpy(rng.standard_normal((60, 3)).astype(np.float32))], 5))
    ends = np.asarray(edges.sum(1)).ravel()
    _, vectors = np.linalg.eigh(edges.toarray() / np.sqrt(np.outer(ends, ends)))
    order = np.argsort(vectors[:, -2] / np.sqrt(ends))
    place = np.argsort(order)
    cuts = [normalised_cut(edges, (place >= n).astype(int)) for n in range(5, 56)]
    assert normalised_cut(edges, half_of(edges).astype(int)) == pytest.approx(min(cuts), rel=1e-9)


def test_several_mistakes_are_put_right_one_after_the_other():
    codes, kinds = blobs(9, each=40, seed=3)
    kinds = kinds.numpy()
    wrong = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6])[kinds]
    halves = np.arange(len(kinds)) % 2 == 0
    wrong[(kinds == 4) & halves], wrong[(kinds == 8) & halves] = 7, 8
    assert adjusted_rand_score(refined([find_neighbours([codes], 10)], wrong, [codes.numpy()], 0), kinds) == 1


def test_kinds_of_very_different_sizes_stay_whole():
    """Modularity alone would split the large kind and merge the two small ones."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([600, 30, 30])
    kinds = torch.arange(3).repeat_interleave(sizes)
    codes = torch.tensor([[0.0, 0.0], [30.0, 0.0], [30.0, 30.0]])[kinds]
    codes = codes + torch.randn(codes.shape, generator=generator)
    graph = find_neighbours([codes], 10)
    groups = kinds.numpy()
    split = np.where(groups == 2, 1, groups)
    split[(groups == 0) & (codes[:, 0].numpy() > 0)] = 2
    assert modularity(edges_of(graph), split) > modularity(edges_of(graph), groups)
    assert np.array_equal(refined([graph], groups, [codes], 0), groups)


def test_a_graph_that_the_groups_do_not_fit_does_not_count():
    codes, kinds = blobs(4, each=40)
    graph = find_neighbours([codes], 10)
    others = torch.from_numpy(np.random.default_rng(0).permutation(160))
    elsewhere = others[graph][others.argsort()]  # the same graph of pictures in another order
    wrong = kinds.numpy().copy()
    wrong[::9] = (wrong[::9] + 1) % 4
    for graphs in ([graph, elsewhere], [elsewhere, graph]):
        assert adjusted_rand_score(refined(graphs, wrong, [], 0), kinds) == 1


def test_groups_are_split_by_the_vectors_too(monkeypatch):
    """Without splits by the graphs."""
    codes, kinds = blobs(6, each=40)
    wrong = np.array([0, 0, 1, 2, 3, 4])[kinds.numpy()]
    wrong[(kinds.numpy() == 5) & (np.arange(240) % 2 == 0)] = 5
    graph = find_neighbours([codes], 10)
    monkeypatch.setattr(refinement, "splits_of_graphs", lambda edges, groups: [])
    assert adjusted_rand_score(refined([graph], wrong, [codes.numpy()], 0), kinds) == 1
    assert adjusted_rand_score(refined([graph], wrong, [], 0), kinds) < 0.9


def test_mergers_with_too_large_a_cut_do_not_count():
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((200, 3)).astype(np.float32)
    graph = find_neighbours([torch.from_numpy(codes)], 8)
    edges, groups = [edges_of(graph)], rng.integers(8, size=200)
    halves = list(splits_of_graphs(edges, groups))
    cuts = [of_groups([graph], each).cut for each in corrections(edges, groups, halves)]
    assert len(cuts) == len(halves) == 8
    limit = (min(cuts) + max(cuts)) / 2
    below = [of_groups([graph], each).cut for each in corrections(edges, groups, halves, largest_cut=limit)]
    assert below
    assert max(below) <= limit + 1e-9
    assert corrections(edges, groups, halves, largest_cut=0.0) == []


def test_single_pictures_move_even_if_no_group_is_large_enough_to_be_split():
    codes, kinds = blobs(5, each=8)
    wrong = kinds.numpy().copy()
    wrong[3] = 4
    assert adjusted_rand_score(refined([find_neighbours([codes], 4)], wrong, [codes.numpy()], 0), kinds) == 1


@pytest.mark.parametrize("rises", [True, False])
def test_whether_the_cut_may_rise_again(monkeypatch, rises):
    """The first correction has a small cut, the second a larger one, the third one that is above the first of all."""
    divisions = [np.array([i]) for i in range(4)]
    known = [Quality(0.1, 1.0), Quality(0.2, 0.5), Quality(0.3, 0.8), Quality(0.4, 1.1)]
    monkeypatch.setattr(refinement, "quality", lambda edges, groups: known[groups[0]])

    def corrections_of(groups, now):
        assert now == known[groups[0]]
        return divisions[groups[0] + 1 :][:1]

    found = corrected([], divisions[0], corrections_of, cut_may_rise=rises)
    assert found[0] == (2 if rises else 1)


@pytest.mark.parametrize("seed", range(5))
def test_afterwards_no_picture_would_rather_be_elsewhere(seed):
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((80, 3)).astype(np.float32)
    graph = find_neighbours([torch.from_numpy(codes)], 6)
    found = refined([graph], np.concatenate([np.arange(4), rng.integers(4, size=76)]), [codes], seed)
    best = modularity(edges_of(graph), found)
    for picture in range(80):
        for group in range(4):
            other = found.copy()
            other[picture] = group
            assert modularity(edges_of(graph), other) <= best + 2e-6


@pytest.mark.parametrize("seed", range(5))
def test_no_division_becomes_worse_or_loses_a_group(seed):
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((150, 4)).astype(np.float32)
    groups = np.concatenate([np.arange(5), rng.integers(5, size=145)])
    graph = find_neighbours([torch.from_numpy(codes)], 8)
    found = refined([graph], groups, [codes], 0)
    before, after = of_groups([graph], groups), of_groups([graph], found)
    assert after.modularity >= before.modularity
    assert after.cut <= before.cut
    assert set(found) == set(range(5))


@pytest.mark.parametrize("groups", [[0] * 30, [0] * 15 + [1] * 15, list(range(30))])
def test_pictures_that_are_all_alike_stay_as_they_are(groups):
    graph = torch.arange(30)[:, None].roll(1, 0)
    found = refined([graph], np.array(groups), [np.zeros((30, 2))], 0)
    assert found.tolist() == groups


def test_very_many_groups_stay_as_they_are(monkeypatch):
    codes, kinds = blobs(4, each=40)
    wrong = np.array([0, 0, 1, 2])[kinds.numpy()]
    wrong[(kinds.numpy() == 3) & (np.arange(160) % 2 == 0)] = 3
    graph = find_neighbours([codes], 10)
    assert adjusted_rand_score(refined([graph], wrong, [codes.numpy()], 0), kinds) == 1
    monkeypatch.setattr(refinement, "MOST_GROUPS", 3)
    assert np.array_equal(refined([graph], wrong, [codes.numpy()], 0), wrong)


@pytest.mark.parametrize("stuck", [True, False])
def test_another_division_is_taken_if_it_is_clearly_better_after_refinement(monkeypatch, stuck):
    """Here nothing is refined, as if no correction led out of a mistake."""
    points, kinds = blobs(6, 300)
    graph, kinds = find_neighbours([points], 10), kinds.numpy()
    mixed = kinds.copy()
    mixed[kinds == 1] = 0  # one kind with another
    mixed[np.flatnonzero(kinds == 2)[:150]] = 1  # and one in two
    nearly = kinds.copy()
    nearly[0] = (kinds[0] + 1) % 6
    monkeypatch.setattr(refinement, "refined", lambda graphs, groups, vectors, seed: groups)
    divisions = {"first": mixed if stuck else nearly, "kinds": kinds, "mixed": mixed}
    for graphs in ([graph], [graph, graph]):
        found, compared = best_refined(graphs, divisions, "first", [], 0)
        assert (found == (kinds if stuck else nearly)).all()
        assert [id(each) for each in compared] == [id(each) for each in divisions.values()]
    monkeypatch.setattr(refinement, "MOST_COMPARED", 5)
    assert best_refined([graph], divisions, "first", [], 0) == (divisions["first"], [divisions["first"]])
    assert best_refined([graph], {"first": mixed}, "first", [], 0)[0] is mixed


def test_a_division_that_splits_a_large_kind_is_not_clearly_better(monkeypatch):
    """Modularity prefers equal sizes: here one kind has nine tenths of the pictures."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([900, 50, 50])
    kinds = torch.arange(3).repeat_interleave(sizes)
    points = 30 * torch.eye(3)[kinds] + torch.randn(1000, 3, generator=generator)
    graph, kinds = find_neighbours([points], 10), kinds.numpy()
    split = np.where(kinds == 0, (points[:, 1] > 0).numpy() * 2, 1)  # and the small kinds merged
    edges = edges_of(graph)
    better = modularity(edges, split) - normalised_cut(edges, split) / 3
    assert better > modularity(edges, kinds) - normalised_cut(edges, kinds) / 3 + CLEARLY_BETTER
    monkeypatch.setattr(refinement, "refined", lambda graphs, groups, vectors, seed: groups)
    assert best_refined([graph], {"kinds": kinds, "split": split}, "kinds", [], 0)[0] is kinds
