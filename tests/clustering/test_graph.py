"""The graph of nearest neighbours: eigenvalues, modularity, normalised cut."""

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning, eigh

from gaussian_groups import blobs
from tunit.clustering import graph
from tunit.clustering.graph import distances_from_separate_groups, edges_of, modularity, normalised_cut
from tunit.clustering.neighbours import find_neighbours


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
    assert distances_from_separate_groups(ring(number, k), [groups])[0] == pytest.approx(expected, abs=1e-9)


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
    assert distances_from_separate_groups(table, [4])[0] == pytest.approx(values[:4].sum(), abs=1e-9)


@pytest.mark.parametrize("groups", [2, 6, 10, 20])
def test_many_separate_parts_are_found_to_be_separate(groups):
    seen, _ = blobs(groups, each=60, apart=1000)
    assert distances_from_separate_groups(find_neighbours([seen], 10), [groups])[0] == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("seed", range(6))
def test_eigenvalues_equal_those_of_the_dense_matrix(seed):
    """Groups that are apart, that touch, and that are mixed."""
    seen, _ = blobs(10, each=30, apart=(1, 2, 3, 6, 20, 1000)[seed], seed=seed)
    table = find_neighbours([seen], 10)
    edges = edges_of(table).toarray()
    degree = edges.sum(1)
    values = eigh(np.diag(degree) - edges, np.diag(degree), eigvals_only=True)
    assert distances_from_separate_groups(table, [10])[0] == pytest.approx(values[:10].sum(), abs=1e-6)


@pytest.mark.parametrize("kind", [UserWarning, LinAlgWarning])
def test_warnings_of_the_search_for_eigenvalues_are_not_shown(monkeypatch, kind):
    """scipy warns of an ill-conditioned matrix if the vectors of a separate part have converged."""
    real = graph.lobpcg

    def warning(*arguments, **options):
        warnings.warn("an ill-conditioned matrix detected", kind, stacklevel=1)
        return real(*arguments, **options)

    monkeypatch.setattr(graph, "lobpcg", warning)
    near = find_neighbours([torch.randn(300, 2, generator=torch.Generator().manual_seed(0))], 10)
    assert 0 < distances_from_separate_groups(near, [3])[0] < 1


def test_modularity_equals_newmans_double_sum():
    generator = torch.Generator().manual_seed(0)
    table = torch.stack([(i + 1 + torch.randperm(19, generator=generator)[:3]) % 20 for i in range(20)])
    groups = torch.randint(3, (20,), generator=generator)
    assert modularity(edges_of(table), groups.numpy()) == pytest.approx(
        literal_modularity(table, groups), abs=1e-12
    )


def test_one_picture_or_two_have_no_groups():
    assert distances_from_separate_groups(torch.tensor([[1], [0]]), [5])[0] == 0.0


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
