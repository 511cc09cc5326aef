"""The choice among several clusterings of the same pictures."""

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from tunit.clustering.measures import modularity
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.partition import best_partition


@pytest.fixture
def seen():
    """Codes of three kinds, clearly separate."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(3).repeat_interleave(40)
    return 9 * torch.eye(3)[kinds] + torch.randn(120, 3, generator=generator), kinds


def logits_of(groups):
    return 5 * torch.eye(3)[groups]


def test_a_correct_head_keeps_its_domains(seen):
    codes, kinds = seen
    merged = torch.where(kinds == 2, 1, kinds)
    best, groups, scores = best_partition(
        find_neighbours([codes], 10), torch.stack([logits_of(merged), logits_of(kinds)]), {}, 0
    )
    assert best == "head 1"
    assert groups.tolist() == kinds.tolist()
    graph = find_neighbours([codes], 10)
    assert scores["head 0"] == pytest.approx(modularity(graph, merged), abs=1e-12)
    assert scores["head 1"] == pytest.approx(2 / 3, abs=0.01)  # three equal parts with no edges between


def test_k_means_is_chosen_if_every_head_merges_kinds(seen):
    codes, kinds = seen
    merged = torch.where(kinds == 2, 1, kinds)
    noise = torch.randn(120, 8, generator=torch.Generator().manual_seed(1))
    best, groups, scores = best_partition(
        find_neighbours([codes], 10), logits_of(merged)[None], {"codes": codes, "features": noise}, 0
    )
    assert best == "codes"
    assert adjusted_rand_score(kinds, groups) == 1
    assert list(scores) == ["head 0", "codes", "features"]


def test_other_vectors_may_divide_the_graph_better_than_the_codes(seen):
    """A few codes are far away from the rest, so k-means on the codes wastes its groups on them."""
    codes, kinds = seen
    far = codes.clone()
    far[::40] += 300 * torch.eye(3)
    best, groups, _ = best_partition(
        find_neighbours([codes], 10),
        logits_of(torch.zeros_like(kinds))[None],
        {"codes": far, "features": codes},
        0,
    )
    assert best == "features"
    assert adjusted_rand_score(kinds, groups) == 1
