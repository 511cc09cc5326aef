"""Spectral clustering, against scikit-learn's and where k-means must fail."""

import numpy as np
import pytest
import torch
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from tunit.clustering import spectral
from tunit.clustering.graph import GRAPH_NEIGHBOURS, edges_of
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.partition import repeated_k_means
from tunit.clustering.spectral import spectral_divisions, spectral_runs


def rings(number, rng):
    """Points on two rings around the same place, and the ring of each."""
    ring, angle = np.arange(number) % 2, rng.uniform(0, 2 * np.pi, number)
    radius = 1 + 2 * ring + rng.normal(0, 0.1, number)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return torch.from_numpy(points.astype(np.float32)), ring


def test_rings_are_groups_although_they_have_one_centre():
    points, ring = rings(400, np.random.default_rng(0))
    assert adjusted_rand_score(repeated_k_means(points.numpy(), 2, 0)[0], ring) < 0.1
    divisions = spectral_divisions([points], 2, 0)
    assert set(divisions) == {"spectral", "spectral, agreed"}
    for groups in divisions.values():
        assert adjusted_rand_score(groups, ring) == 1


def test_the_groups_are_those_of_another_library():
    """Six groups that overlap a little, so that every point has neighbours of other groups."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(6, size=600)
    points = torch.from_numpy((3.2 * np.eye(6)[kinds] + rng.normal(size=(600, 6))).astype(np.float32))
    neighbours = find_neighbours([points], GRAPH_NEIGHBOURS)
    other = SpectralClustering(6, affinity="precomputed", random_state=0)
    theirs = other.fit_predict(edges_of(neighbours).toarray())
    ours = spectral_divisions([points], 6, 0)["spectral"]
    assert adjusted_rand_score(ours, theirs) > 0.9
    assert adjusted_rand_score(ours, kinds) > adjusted_rand_score(theirs, kinds) - 0.02


def test_separate_parts_of_the_graph_are_groups():
    """The eigenvalue 1 is found once for each part; the vectors of pictures in other parts are orthogonal."""
    part = np.repeat([0, 1, 2], [20, 30, 40])
    neighbours = torch.from_numpy(
        np.stack(
            [np.random.default_rng(i).permutation(np.flatnonzero(part == part[i]))[:12] for i in range(90)]
        )
    )
    for groups in spectral_runs(neighbours, 3, 0):
        assert adjusted_rand_score(groups, part) == 1


@pytest.mark.filterwarnings("error")
def test_few_pictures_and_copies():
    points = torch.tensor([[0.0], [0.0], [0.0], [9.0], [9.1]])
    for groups in spectral_divisions([points], 2, 0).values():
        assert groups.shape == (5,) and groups.max() <= 1


def test_many_groups_are_left_to_other_divisions(monkeypatch):
    monkeypatch.setattr(spectral, "MOST_GROUPS", 2)
    points, _ = rings(30, np.random.default_rng(0))
    assert spectral_divisions([points], 3, 0) == {}
