"""Merging of groups, compared with slow programs that compute everything again at each merge."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tunit.clustering import merging, ward
from tunit.clustering.graph import edges_of
from tunit.clustering.merging import (
    CONFIRMED,
    LINKED,
    SHARE_OF_USUAL,
    SURELY_APART,
    linked,
    merge_pairs,
    merge_unconfirmed,
    merge_unseparated,
)
from tunit.clustering.number import needed
from tunit.clustering.separation import ENOUGH, held_out_separation, separation
from tunit.clustering.ward import levels


def literal_merges(groups, apart, enough):
    """All pairs of groups, their separations and limits are looked at anew at each merge."""
    rows = {i: np.flatnonzero(groups == i) for i in np.unique(groups)}
    known = {}

    def once(*two):
        key = tuple(some.tobytes() for some in two)
        known[key] = known.get(key) or apart(*two)
        return known[key]

    while len(rows) > 1:
        share = {
            (i, j): once(rows[i], rows[j]) / enough(rows[i], rows[j], len(rows))
            for i, j in itertools.combinations(rows, 2)
        }
        i, j = min(share, key=lambda pair: share[pair])
        if share[i, j] >= 1:
            break
        rows[i] = np.concatenate([rows[i], rows.pop(j)])
    merged = np.empty(len(groups), np.int64)
    for place, some in enumerate(rows.values()):
        merged[some] = place
    return merged


def graph_of(points, k=10):
    """The graph of the k nearest neighbours, and the same as a literal matrix."""
    distances = np.square(points[:, None] - points[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1)[:, :k]
    literal = np.zeros_like(distances)
    np.put_along_axis(literal, nearest, 1.0, axis=1)
    return edges_of(torch.from_numpy(nearest)), np.maximum(literal, literal.T)


def literal_unseparated(points, groups, usual):
    graph = graph_of(points)[1]

    def enough(one, other, left):
        full = min(SURELY_APART, max(needed(left), SHARE_OF_USUAL * usual))
        return 1 + (full - 1) * min(1.0, min(len(one), len(other)) / ENOUGH) ** 0.5

    def apart(one, other):
        ends = min(graph[one].sum(), graph[other].sum())
        return (
            separation(points[one], points[other])
            if graph[np.ix_(one, other)].sum() >= LINKED * ends
            else 1e9
        )

    return literal_merges(groups, apart, enough)


def literal_levels(points, most, seed):
    """Ward's method; the cost of merging each two groups is computed anew at each merge."""
    groups, found = ward._cells(points, most, seed), {}
    while True:
        k = len(groups)
        centres = np.stack([points[rows].mean(0) for rows in groups])
        sizes = np.array([len(rows) for rows in groups], np.float64)
        cost = np.square(centres[:, None] - centres[None]).sum(2)
        cost *= sizes[:, None] * sizes[None] / (sizes[:, None] + sizes[None])
        np.fill_diagonal(cost, np.inf)
        first, second = sorted(divmod(int(cost.argmin()), k)) if k > 1 else (0, 0)
        if k <= most:
            numbers = np.empty(len(points), np.int64)
            for i, rows in enumerate(groups):
                numbers[rows] = i
            apart = separation(points[groups[first]], points[groups[second]]) if k > 1 else 0.0
            found[k] = numbers, apart
        if k == 1:
            return found
        groups[first] = np.concatenate([groups[first], groups.pop(second)])


def halves(kinds, each, axes, seed):
    """Kinds far apart, each cut in two along a line: the points, the halves and the kinds."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(kinds), each)
    points = rng.normal(size=(len(of), axes))
    cut = 2 * of + (points[:, 0] > 0)
    return points + 4 * rng.normal(size=(kinds, axes))[of], cut, of


@pytest.mark.parametrize(("kinds", "axes"), [(4, 1), (9, 4), (12, 20)])
@pytest.mark.parametrize("most", [12, 60])
def test_levels_equal_those_of_the_slow_program(kinds, axes, most):
    points, _, _ = halves(kinds, 40, axes, seed=kinds)
    found, expected = levels(points, most, seed=1), literal_levels(points, most, seed=1)
    assert found.keys() == expected.keys()
    for k, level in found.items():
        assert np.array_equal(level.groups, expected[k][0]) and level.apart == expected[k][1]


@pytest.mark.parametrize("seed", range(4))
def test_up_to_50_groups_are_merged_as_by_the_slow_program(seed):
    points, cut, _ = halves(7, 40, 3, seed)
    merged = merge_unseparated(points, cut, 1.5, needed, graph_of(points)[0])
    assert np.array_equal(merged, literal_unseparated(points, cut, 1.5))
    cues = [points, np.random.default_rng(seed).normal(size=(len(points), 2))]
    expected = literal_merges(
        cut,
        lambda one, other: max(held_out_separation(cue[one], cue[other], 0) for cue in cues),
        lambda *_: CONFIRMED,
    )
    assert expected.max() < cut.max()
    assert np.array_equal(merge_unconfirmed(cues, cut, seed=0), expected)


def test_of_more_groups_only_near_ones_are_compared_with_the_same_result(monkeypatch):
    monkeypatch.setattr(merging, "EVERY_PAIR", 10)
    monkeypatch.setattr(merging, "NEAREST", 4)
    points, cut, of = halves(15, 40, 6, seed=0)
    calls = []

    def counted(one, other, *seed):
        calls.append(len(one))
        return (held_out_separation if seed else separation)(one, other, *seed)

    monkeypatch.setattr(merging, "separation", counted)
    monkeypatch.setattr(merging, "held_out_separation", counted)
    expected = literal_unseparated(points, cut, 1.5)
    assert expected.max() < cut.max()
    assert np.array_equal(merge_unseparated(points, cut, 1.5, needed, graph_of(points)[0]), expected)
    assert len(calls) < 30 * 29 / 2 / 2
    calls.clear()
    assert np.array_equal(merge_unconfirmed([points], cut, seed=0), of)
    assert len(calls) < 30 * 29 / 2 / 2


def test_groups_without_edges_between_them_stay_apart_whatever_the_dip_says(monkeypatch):
    """Pieces of two kinds. A limit that no separation reaches would merge all; the graph keeps the kinds apart."""
    monkeypatch.setattr(merging, "SURELY_APART", 1e9)
    points, cut, of = halves(2, 60, 4, seed=0)
    edges, literal = graph_of(points)
    assert np.array_equal(merge_unseparated(points, cut, 1e9, needed, edges), of)
    one, other, far = (np.flatnonzero(cut == i) for i in range(3))
    share = literal[np.ix_(one, other)].sum() / min(literal[one].sum(), literal[other].sum())
    assert linked(edges, one, other) == pytest.approx(share) and share > 0.05
    assert linked(edges, one, far) < LINKED


def test_pairs_are_merged_until_all_are_separate():
    """Numbers on a line: groups nearer than 2 are merged, the nearest first. The mean of a group then moves."""
    values = np.array([0.0, 1.0, 1.9, 10.0, 11.5, 20.0])

    def apart(one, other):
        return abs(values[one].mean() - values[other].mean())

    every = {(i, j): apart([i], [j]) for i, j in itertools.combinations(range(6), 2)}
    some = {pair: value for pair, value in every.items() if pair not in ((0, 2), (2, 5))}
    for found in (every, some):
        merged = merge_pairs(np.arange(6), apart, lambda smaller, left: np.full(len(smaller), 2.0), found)
        assert merged.tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("usual", "needed_of_two", "limit"),
    [
        (2.0, 1.0, 1.4),  # seven tenths of the usual separation
        (1.0, 1.0, 1.0),  # what is needed, if that is more
        (10.0, 1.0, 2.2),  # but never more than 2.2
        (1.0, 5.0, 2.2),
    ],
)
@pytest.mark.parametrize(("each", "share"), [(100, 1.0), (200, 1.0), (25, 0.5), (9, 0.3), (4, 1.0)])
def test_the_limit_below_which_two_groups_are_merged(monkeypatch, usual, needed_of_two, limit, each, share):
    """Of two groups whose separation is given, and all of whose pictures are neighbours. Of small groups, only this
    share of the part above 1 is asked; of groups of fewer than five pictures, all of it."""
    groups, points = np.repeat([0, 1], each), np.zeros((2 * each, 1))
    edges = csr_matrix(np.ones((2 * each, 2 * each)))
    for times, number in ((0.98, 1), (1.02, 2)):
        monkeypatch.setattr(merging, "separation", lambda *_, value=times * (1 + share * (limit - 1)): value)
        merged = merge_unseparated(points, groups, usual, lambda left: needed_of_two, edges)
        assert merged.max() + 1 == number
