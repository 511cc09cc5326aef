import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances

from tunit.clustering import neighbours
from tunit.clustering.neighbours import agreement, find_neighbours


def literal_table(codes, cue, k):
    """Neighbours by the product of both self-tuned affinities, in numpy, one picture after another."""
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
def test_neighbours_are_those_of_the_literal_product(monkeypatch, chunk):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    codes, _ = groups()
    cue, _ = groups(seed=1, width=9)
    found = find_neighbours(codes.double(), {"one": cue.double()}, 5)
    assert found.table.tolist() == literal_table(codes, cue, 5).tolist()
    assert found.cue == "one"


def test_a_picture_is_never_its_own_neighbour_even_among_copies():
    codes = torch.zeros(6, 4)
    table = find_neighbours(codes, {"same": torch.zeros(6, 2)}, 3).table
    assert not (table == torch.arange(6)[:, None]).any()


def test_the_cue_that_agrees_with_the_codes_is_taken():
    codes, kinds = groups()
    telling, _ = groups(seed=2)
    noise = torch.randn(len(kinds), 8, generator=torch.Generator().manual_seed(3))
    found = find_neighbours(codes, {"noise": noise, "telling": telling}, 5)
    assert found.cue == "telling"
    assert found.agreement["noise"] == pytest.approx(0.5, abs=0.08)  # chance
    assert (kinds[found.table] == kinds[:, None]).float().mean() > 0.99


def test_agreement_is_the_mean_rank_of_the_cues_neighbours(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 5)
    codes, _ = groups(each=5)
    cue, _ = groups(each=5, seed=7, spread=2.0)
    by_codes, by_cue = pairwise_distances(codes.double().numpy()), pairwise_distances(cue.double().numpy())
    ranks = []
    for i in range(len(codes)):
        others = [j for j in range(len(codes)) if j != i]
        for near in sorted(others, key=lambda j: by_cue[i, j])[:5]:
            nearer = sum(by_codes[i, j] < by_codes[i, near] for j in others)
            ranks.append(1 - nearer / len(others))  # no two distances are equal
    assert agreement(codes.double(), cue.double()) == pytest.approx(np.mean(ranks), abs=1e-6)
    assert agreement(codes, codes) > 0.85  # the nearest of twenty are among the first five
