"""Divisions by maps: kinds of very different sizes, t-SNE of all distances, and which divisions are taken."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score
from tests.gaussian_groups import blobs
from threadpoolctl import threadpool_limits

from tunit.clustering import maps
from tunit.clustering.maps import divisions_of_maps, more_certain
from tunit.clustering.partition import agreed_groups, agreement, repeated_k_means
from tunit.evaluation.clusters import normalised_mutual_information


def uneven(seed=0):
    """Four kinds of 300, 60, 40 and 30 points in a plane, and the kind of each."""
    kinds = np.repeat(np.arange(4), [300, 60, 40, 30])
    centres = np.array([[0, 0], [7, 0], [0, 7], [7, 7]])
    spread = np.array([2.0, 0.7, 0.7, 0.7])[kinds, None]
    points = centres[kinds] + spread * np.random.default_rng(seed).normal(size=(430, 2)).clip(-2, 2)
    return torch.from_numpy(points.astype(np.float32)), kinds


def test_kinds_of_very_different_sizes_are_found_where_k_means_divides_the_large_one():
    points, kinds = uneven()
    assert max(adjusted_rand_score(each, kinds) for each in repeated_k_means(points.numpy(), 4, 0)) < 0.8
    divisions = divisions_of_maps([points], 4, 0)
    assert len(divisions) == 6
    assert adjusted_rand_score(agreed_groups(divisions, 4), kinds) > 0.99


def test_the_map_of_nearest_neighbours_is_that_of_all_distances(monkeypatch):
    """Of all distances, t-SNE looks only at those of the nearest neighbours; here it gets them all, in float64."""
    monkeypatch.setattr(maps, "PERPLEXITIES", (30,))
    monkeypatch.setattr(maps, "PICTURES_IN_GROUP", 40)
    points, kinds = blobs(5, each=40)
    others = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    total = np.zeros((200, 200))
    for vectors in (points.double().numpy(), others.double().numpy()):
        apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        scale = np.sort(apart, axis=1)[:, 1:11].mean(1)
        total += apart**2 / np.outer(scale, scale)
    tsne = TSNE(perplexity=30, metric="precomputed", init="random", random_state=3)
    with threadpool_limits(1):
        theirs = fcluster(linkage(tsne.fit_transform(np.sqrt(total)), "average"), 5, "maxclust")
    assert adjusted_rand_score(divisions_of_maps([points, others], 5, 3)[0], theirs) > 0.95
    assert adjusted_rand_score(theirs, kinds) > 0.9


def test_the_same_seed_gives_the_same_divisions():
    points, _ = blobs(6, each=60, apart=1.0)  # groups that overlap, so that small differences would grow
    first, again, other = (divisions_of_maps([points], 6, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(one, same) for one, same in zip(first, again, strict=True))
    assert not all(np.array_equal(one, another) for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize("number", [2, 49])
def test_few_pictures_have_no_maps(number):
    points = torch.randn(number, 4, generator=torch.Generator().manual_seed(0))
    assert divisions_of_maps([points], 2, 0) == []
    found, other = np.arange(number) % 2, np.arange(number) // 2 % 2
    assert more_certain(found, [found, other], [points], 2, 0) is found


def test_equal_pictures_are_divided_somehow():
    for groups in divisions_of_maps([torch.ones(310, 4)], 3, 0):
        assert groups.shape == (310,) and groups.min() == 0 and groups.max() <= 2


def test_agreement_is_the_mean_of_all_pairs():
    rng = np.random.default_rng(0)
    one, two, three = (
        np.where(rng.random(200) < 0.7, np.arange(200) % 4, rng.integers(4, size=200)) for _ in "abc"
    )
    pairs = [normalised_mutual_information(*pair) for pair in ((one, two), (one, three), (two, three))]
    assert agreement([one, two, three]) == pytest.approx(np.mean(pairs), rel=1e-9)
    assert agreement([one, one, one]) == pytest.approx(1)


def test_the_groups_of_maps_are_taken_if_maps_agree_more():
    points, kinds = uneven()
    rng = np.random.default_rng(0)
    guesses = [rng.integers(4, size=430) for _ in range(3)]
    assert adjusted_rand_score(more_certain(guesses[0], guesses, [points], 4, 0), kinds) > 0.95


def test_refined_divisions_stay_if_they_agree_more():
    """Of noise, each map shows other groups."""
    noise = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    found = np.arange(400) % 5
    nearly = found.copy()
    nearly[:10] = 0
    assert more_certain(found, [found, nearly], [noise], 5, 0) is found


@pytest.mark.parametrize(("less", "taken"), [(0.0, "maps"), (0.004, "maps"), (0.006, "refined")])
def test_maps_may_agree_a_little_less(monkeypatch, less, taken):
    found, points = np.arange(400) % 5, torch.zeros(400, 2)
    groups = [np.arange(400) // 80, np.arange(400) // 80]
    monkeypatch.setattr(maps, "divisions_of_maps", lambda *arguments: groups)
    monkeypatch.setattr(maps, "agreement", lambda some: 0.9 - less if some is groups else 0.9)
    chosen = more_certain(found, [found, found], points, 5, 0)
    assert adjusted_rand_score(chosen, groups[0] if taken == "maps" else found) == 1


@pytest.mark.parametrize("refined", [1, 3])
def test_no_map_is_made_if_all_refined_divisions_agree_or_there_is_one(monkeypatch, refined):
    def refuse(*arguments):
        raise AssertionError("a map was made")

    monkeypatch.setattr(maps, "divisions_of_maps", refuse)
    found = np.arange(400) % 5
    assert more_certain(found, [found] * refined, [torch.zeros(400, 2)], 5, 0) is found
