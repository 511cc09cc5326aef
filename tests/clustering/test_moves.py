"""Single pictures move to other groups as long as modularity grows."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from gaussian_groups import blobs
from tunit.clustering.graph import edges_of, modularity
from tunit.clustering.moves import moved
from tunit.clustering.neighbours import find_neighbours


def of_random_codes(seed):
    """Two graphs of 60 pictures, and random groups of them."""
    rng = np.random.default_rng(seed)
    graphs = [
        edges_of(find_neighbours([torch.from_numpy(rng.standard_normal((60, 3)).astype(np.float32))], k))
        for k in (4, 6)
    ]
    return graphs, np.concatenate([np.arange(4), rng.integers(4, size=56)])


def total(graphs, groups):
    return sum(modularity(each, groups) for each in graphs)


@pytest.mark.parametrize("seed", range(4))
def test_afterwards_no_single_move_makes_modularity_larger(seed):
    graphs, groups = of_random_codes(seed)
    given = groups.copy()
    found = moved(graphs, groups)
    assert np.array_equal(groups, given)  # a copy is returned
    best = total(graphs, found)
    assert best > total(graphs, groups)
    for picture in range(60):
        if np.sum(found == found[picture]) > 1:
            for group in range(4):
                other = found.copy()
                other[picture] = group
                assert total(graphs, other) <= best + 2e-6


def test_pictures_in_the_wrong_group_come_home():
    codes, kinds = blobs(5, each=40)
    wrong = kinds.numpy().copy()
    wrong[::7] = (wrong[::7] + 1) % 5
    assert adjusted_rand_score(moved([edges_of(find_neighbours([codes], 8))], wrong), kinds) == 1


def test_the_last_picture_of_a_group_stays():
    codes, kinds = blobs(2, each=30)
    groups = kinds.numpy().copy()
    groups[0] = 2  # alone
    found = moved([edges_of(find_neighbours([codes], 8))], groups)
    assert set(found) == {0, 1, 2}
