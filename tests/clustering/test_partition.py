"""Several clusterings of the same pictures: the groups on which they agree, and the choice of the best division."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from tunit.clustering import partition
from tunit.clustering.graph import edges_of, modularity, normalised_cut
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.partition import (
    agreed_groups,
    best_partition,
    k_means_in_pieces,
    repeated_k_means,
)


@pytest.fixture
def seen():
    """Codes of three kinds, clearly separate, and their graph of ten nearest neighbours."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(3).repeat_interleave(40)
    codes = 9 * torch.eye(3)[kinds] + torch.randn(120, 3, generator=generator)
    return find_neighbours([codes], 10), codes.numpy(), kinds.numpy()


def test_the_right_division_is_chosen(seen):
    graph, _, kinds = seen
    mixed = np.where(np.arange(120) % 40 < 5, (kinds + 1) % 3, kinds)
    merged = np.where(kinds == 2, 1, kinds)  # no edge is cut, but one group is missing
    divisions = {"mixed": mixed, "merged": merged, "right": kinds, "one": np.zeros(120, np.int64)}
    best, scores = best_partition([graph], divisions)
    assert best == "right"
    assert scores["right"] == pytest.approx(0, abs=0.01)  # three parts with no edges between
    assert scores["merged"] == pytest.approx(1, abs=0.01)
    assert scores["one"] == 2
    assert scores["mixed"] == normalised_cut(edges_of(graph), mixed) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_series_of_near_copies_is_not_kept_at_the_cost_of_a_kind(seed):
    """40 near-copies are a separate part of the graph, while the three kinds overlap a little."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(3), 200)
    codes = 2 * np.eye(3, 10)[kinds] + rng.standard_normal((600, 10))
    codes = np.concatenate([codes, codes[5] + 0.05 * rng.standard_normal((40, 10))])
    kinds = np.concatenate([kinds, np.zeros(40, np.int64)])
    series = np.where(np.arange(640) >= 600, 2, np.where(kinds == 2, 1, kinds))
    graph = find_neighbours([torch.from_numpy(codes)], 10)
    best, cuts = best_partition([graph], {"series": series, "kinds": kinds})
    assert cuts["series"] < cuts["kinds"] and best == "kinds"


def test_small_kinds_that_no_edge_leaves_are_kept_at_the_cost_of_equal_sizes():
    kinds = np.repeat(np.arange(3), [400, 20, 20])
    rng = np.random.default_rng(0)
    codes = 30 * np.eye(3)[kinds] + np.column_stack([rng.uniform(0, 20, 440), rng.standard_normal((440, 2))])
    graph = find_neighbours([torch.from_numpy(codes)], 10)
    equal = np.where(kinds > 0, 2, (codes[:, 0] > 40).astype(np.int64))
    divisions = {"equal": equal, "kinds": kinds}
    assert modularity(edges_of(graph), equal) > modularity(edges_of(graph), kinds)
    assert best_partition([graph], divisions)[0] == "kinds"


def test_of_equally_good_divisions_the_first_is_chosen(seen):
    graph, _, kinds = seen
    assert best_partition([graph], {"first": kinds, "second": (kinds + 1) % 3})[0] == "first"


def in_a_row(groups, steps):
    """A graph in which the neighbours of a picture are those so many places after it in its group."""
    table = np.zeros((len(groups), len(steps)), np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        table[rows] = np.stack([np.roll(rows, -step) for step in steps], 1)
    return torch.from_numpy(table)


def test_a_division_is_not_judged_by_its_own_graph_alone():
    """E has learnt from the graph of a cue, and found kinds that it shows nearly as clearly as the cue's."""
    kinds, of_cue = np.arange(120) % 3, np.random.default_rng(0).permutation(np.arange(120) // 40)
    codes, by_cue = in_a_row(kinds, (1, 2, 3)), in_a_row(of_cue, (1, 2, 3))
    learnt_from = torch.cat([by_cue, codes], 1)
    learnt_from[::40, 3:] = by_cue[::40]
    divisions = {"cue": of_cue, "kinds": kinds}
    assert best_partition([learnt_from], divisions)[0] == "cue"
    best, cuts = best_partition([learnt_from, codes], divisions)
    assert best == "kinds"
    expected = sum(normalised_cut(edges_of(graph), of_cue) for graph in (learnt_from, codes))
    assert cuts["cue"] == pytest.approx(expected)


def test_if_every_division_is_worse_than_chance_the_least_bad_one_is_chosen():
    """One edge leads from each picture to the next, and neighbours are never in one group."""
    graph = (torch.arange(40)[:, None] + 1) % 40
    divisions = {"halves": np.arange(40) % 2, "quarters": np.arange(40) % 4}
    assert modularity(edges_of(graph), divisions["quarters"]) < 0
    assert best_partition([graph, graph], divisions)[0] == "quarters"


def test_if_it_has_not_learnt_from_the_first_graph_its_codes_decide_nothing():
    of_codes, of_cue = np.arange(120) % 3, np.random.default_rng(0).permutation(np.arange(120) // 40)
    graphs = [in_a_row(of_cue, (1, 2, 3)), in_a_row(of_codes, (1, 2, 3))]
    divisions = {"codes": of_codes, "cue": of_cue}
    assert best_partition(graphs[1:], divisions)[0] == "codes"
    assert best_partition(graphs, divisions)[0] == "cue"


def give_modularities(monkeypatch, divisions, modularities):
    """Divisions have these modularities, by their names and the graph's number, and all have the same cut."""
    names = {groups.tobytes(): name for name, groups in divisions.items()}
    monkeypatch.setattr(partition, "edges_of", lambda graph: graph)
    monkeypatch.setattr(partition, "normalised_cut", lambda *_: 1.0)
    monkeypatch.setattr(
        partition, "modularity", lambda graph, groups: modularities[names[groups.tobytes()]][graph]
    )


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        # At least nine tenths of the largest modularity on the first graph: it fits, and the sums decide.
        (0.91, 0.14, "other"),
        (0.91, 0.08, "largest"),
        # Less: its sum must be larger by a tenth.
        (0.89, 0.16, "largest"),
        (0.5, 0.59, "largest"),
        (0.5, 0.61, "other"),
    ],
)
def test_from_where_on_a_division_fits_the_graph_from_which_e_has_learnt(monkeypatch, first, second, best):
    """Two divisions of given modularities on the two graphs; that of the largest on the first graph is 1 and 0."""
    modularities = {"largest": (1.0, 0.0), "other": (first, second)}
    divisions = {"largest": np.array([0, 1]), "other": np.array([1, 0])}
    give_modularities(monkeypatch, divisions, modularities)
    assert best_partition([0, 1], divisions)[0] == best


@pytest.mark.parametrize(
    ("of_best", "largest", "learnt"),
    [
        (0.971, 1.0, True),  # at least 0.97 of the largest modularity on the graph that is taught
        (0.969, 1.0, False),
        (1.0, 1.0, True),
        (-0.1, -0.1, True),  # nothing fits that graph better
        (-0.2, -0.1, False),
    ],
)
def test_it_has_learnt_if_the_best_division_by_its_codes_fits_what_it_was_taught(
    monkeypatch, of_best, largest, learnt
):
    taught, own = 0, 1  # stand for the graphs
    modularities = {"best": {taught: of_best, own: 0.5}, "other": {taught: largest, own: 0.4}}
    divisions = {"other": np.array([0, 1]), "best": np.array([1, 0])}
    give_modularities(monkeypatch, divisions, modularities)
    assert partition.has_learnt(taught, divisions, best_partition([own], divisions)[0]) == learnt


def test_it_has_learnt_kinds_that_overlap_in_what_it_was_taught_but_not_kinds_that_it_never_saw():
    """It was taught by vectors in which two of three kinds overlap, and its codes tell all three apart."""
    rng = np.random.default_rng(0)
    kinds, random = np.repeat(np.arange(3), 60), rng.permutation(np.arange(180) % 3)
    vague = np.array([[0.0], [4.0], [12.0]])[kinds] + rng.standard_normal((180, 1))
    clear = 9 * np.eye(3)[kinds] + rng.standard_normal((180, 3))
    taught, own = (find_neighbours([torch.from_numpy(each)], 10) for each in (vague, clear))
    others = find_neighbours([torch.from_numpy(9 * np.eye(3)[random] + rng.standard_normal((180, 3)))], 10)
    # By the first graph alone it is about as good to cut between the kinds elsewhere.
    elsewhere = np.where(kinds == 2, 2, (vague[:, 0] > 2).astype(int))
    divisions = {"elsewhere": elsewhere, "kinds": kinds, "random": random}
    assert best_partition([taught], divisions)[0] == "elsewhere"
    assert partition.has_learnt(taught, divisions, best_partition([own], divisions)[0])
    assert not partition.has_learnt(taught, divisions, best_partition([others], divisions)[0])


def test_clusterings_with_different_mistakes_agree_on_the_truth():
    """Each of five clusterings puts one of five kinds with the next and splits a third; no single one is right."""
    kinds = np.arange(5).repeat(30)
    half = np.arange(150) % 2
    clusterings = []
    for i in range(5):
        merged = np.where(kinds == (i + 1) % 5, i, kinds)
        clusterings.append(np.where((kinds == (i + 3) % 5) & (half == 1), (i + 1) % 5, merged))
    assert all(adjusted_rand_score(kinds, groups) < 0.9 for groups in clusterings)
    agreed = agreed_groups(clusterings, 5)
    assert adjusted_rand_score(kinds, agreed) == 1
    assert set(agreed) == set(range(5))


def test_agreed_groups_are_those_of_scipy_on_literal_shares():
    rng = np.random.default_rng(3)
    clusterings = [rng.integers(0, k, 40) for k in (3, 4, 7, 4, 5, 9, 2)]
    clusterings += [np.arange(40) // 10 for _ in range(5)]
    apart = [sum(c[i] != c[j] for c in clusterings) / 12 for i in range(40) for j in range(i + 1, 40)]
    expected = fcluster(linkage(apart, "average"), 4, "maxclust")
    assert adjusted_rand_score(expected, agreed_groups(clusterings, 4)) == 1


def test_there_are_never_more_groups_than_pictures():
    assert sorted(agreed_groups([np.array([0, 1, 1])], 5)) == [0, 1, 2]


def test_repeated_k_means_starts_anew_each_time_and_repeats_with_its_seed(seen):
    _, codes, _ = seen
    first, again = repeated_k_means(codes, 6, 1), repeated_k_means(codes, 6, 1)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(adjusted_rand_score(first[0], other) < 1 for other in first[1:])


def test_kinds_of_very_different_sizes_are_joined_from_pieces():
    """k-means itself cuts the large kind in two and mixes small ones, in most runs in the same way."""
    rng = np.random.default_rng(0)
    sizes = [400, 200, 60, 40, 30, 20]
    kinds = np.arange(6).repeat(sizes)
    places = np.array([[0, 0], [9, 0], [0, 9], [5, 9], [9, 9], [9, 5]], float)
    codes = (
        places[kinds]
        + rng.standard_normal((len(kinds), 2)) * np.array([1.3, 1.0, 0.5, 0.5, 0.5, 0.5])[kinds, None]
    )
    joined = agreed_groups(k_means_in_pieces(codes, 6, 0), 6)
    assert adjusted_rand_score(joined, kinds) > 0.98
    assert adjusted_rand_score(agreed_groups(repeated_k_means(codes, 6, 0), 6), kinds) < 0.9


@pytest.mark.parametrize(
    ("pictures", "number", "expected"), [(400, 10, (30, 60)), (160, 10, (30, 32)), (30, 10, (10, 10))]
)
def test_pieces_are_three_to_six_times_as_many_but_hold_five_pictures(pictures, number, expected):
    codes = np.random.default_rng(0).standard_normal((pictures, 4))
    found = [int(groups.max()) + 1 for groups in k_means_in_pieces(codes, number, 0)]
    assert (found[0], found[-1]) == expected
    assert found == sorted(found)


def test_the_memory_does_not_grow_with_the_number_of_groups():
    rng = np.random.default_rng(0)
    clusterings = [rng.permutation(400) % 300 for _ in range(40)]
    tracemalloc.start()
    try:
        agreed_groups(clusterings, 300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 400 * 400  # bytes; a column for each group would take 12,000 x 400 x 4
