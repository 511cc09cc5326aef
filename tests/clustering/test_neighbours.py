import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances

from tunit.clustering import neighbours
from tunit.clustering.neighbours import find_neighbours


def literal_table(codes, cue, k):
    """Neighbours by the product of both self-tuned affinities, computed in numpy for one picture after another."""
    affinity = 1.0
    for vectors in (codes, cue):
        distance = pairwise_distances(vectors.double().numpy())
        np.fill_diagonal(distance, np.inf)
        scale = np.sort(distance, axis=1)[:, :k].mean(1)
        affinity = affinity * np.exp(-(distance**2) / np.outer(scale, scale))
    return np.argsort(-affinity, axis=1, kind="stable")[:, :k]


def groups(number=4, each=12, width=6, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(number, width, generator=generator)
    kinds = torch.arange(number).repeat_interleave(each)
    return centres[kinds] + spread * torch.randn(len(kinds), width, generator=generator), kinds


@pytest.mark.parametrize("chunk", [7, 1024])
def test_neighbours_match_the_product_computed_step_by_step(monkeypatch, chunk):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    codes, _ = groups()
    cue, _ = groups(seed=1, width=9)
    found = find_neighbours([codes.double(), cue.double()], 5)
    assert found.tolist() == literal_table(codes, cue, 5).tolist()


def test_of_a_large_set_fewer_pictures_are_compared_at_a_time(monkeypatch):
    """Otherwise the memory would grow with the set."""
    codes, _ = groups()
    expected, sizes = find_neighbours([codes, codes], 5), []
    monkeypatch.setattr(neighbours, "PAIRS", 6 * len(codes) + 1)
    whole = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda some, every: (sizes.append(len(some)), whole(some, every))[1])
    assert torch.equal(find_neighbours([codes, codes], 5), expected)
    assert set(sizes) == {6}


def test_the_scale_of_a_measure_does_not_matter():
    codes, _ = groups()
    cue, _ = groups(seed=1)
    expected = find_neighbours([codes.double(), cue.double()], 5)
    assert find_neighbours([1000 * codes.double(), cue.double() / 70], 5).tolist() == expected.tolist()


def test_a_picture_is_never_its_own_neighbour_even_among_copies():
    table = find_neighbours([torch.zeros(6, 4), torch.zeros(6, 2)], 3)
    assert not (table == torch.arange(6)[:, None]).any()


def test_two_measures_together_separate_what_neither_does_alone():
    """One measure separates kinds 0 and 1 from 2 and 3; the other separates 0 and 2 from 1 and 3."""
    kinds = torch.arange(4).repeat_interleave(25)
    noise = 0.5 * torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
    first, second = noise[0] + 4 * (kinds // 2)[:, None], noise[1] + 4 * (kinds % 2)[:, None]

    def purity(measures):
        return (kinds[find_neighbours(measures, 5)] == kinds[:, None]).float().mean().item()

    assert purity([first]) < 0.7
    assert purity([first, second]) > 0.99
