"""How clearly pictures fall into groups, compared with points without groups."""

import math

import numpy as np
import pytest
import torch

from gaussian_groups import blobs
from tunit.clustering.graph import GRAPH_NEIGHBOURS, distances_from_separate_groups
from tunit.clustering.groups_by_chance import GroupsByChance, _normal_points_like, intrinsic_dimension
from tunit.clustering.neighbours import find_neighbours, neighbours_and_distances


def cube(number, dimensions, seed=0):
    """Evenly distributed points of a torus with this many dimensions, so that there is no border."""
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * math.pi * torch.rand(number, dimensions, generator=generator)
    return torch.cat([angles.sin(), angles.cos()], 1)


def ratio_of(by_chance, measures):
    return by_chance.ratio(by_chance.separation(measures))


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_the_dimension_of_a_torus_is_found(dimensions):
    distances, _ = neighbours_and_distances([cube(3000, dimensions)], GRAPH_NEIGHBOURS)
    # A little too large, because pictures that lie apart from others count as nearer (the local scale).
    assert intrinsic_dimension(distances) == pytest.approx(dimensions, rel=0.15)


def test_the_dimension_equals_a_literal_sum():
    points = np.random.default_rng(1).standard_normal((40, 3))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    terms = []
    for row in range(40):
        near = sorted(apart[row])[1:8]  # without the picture itself
        terms += [math.log(near[-1] / one) for one in near[:-1]]
    nearest = torch.from_numpy(np.sort(apart, axis=1)[:, 1:8])
    assert intrinsic_dimension(nearest) == pytest.approx(1 / np.mean(terms), rel=1e-12)


def test_copies_of_pictures_are_left_out():
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    distances, _ = neighbours_and_distances([points], 6)
    with_copies = torch.cat([torch.zeros(200, 1), distances], 1)
    assert intrinsic_dimension(with_copies) == intrinsic_dimension(distances)
    assert intrinsic_dimension(torch.zeros(20, 6)) == math.inf
    assert intrinsic_dimension(torch.ones(20, 6)) == math.inf


def test_copies_do_not_change_the_dimension_of_many_wide_vectors():
    """Regression: torch.cdist gives copies a distance of up to 1e-3, and these distances counted."""
    points = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    alone, _ = neighbours_and_distances([points], GRAPH_NEIGHBOURS)
    twice, _ = neighbours_and_distances([points.repeat(2, 1)], GRAPH_NEIGHBOURS)
    assert (twice[:, 0] == 0).all() and (twice[:, 2] > 0).all()
    assert intrinsic_dimension(twice) == pytest.approx(intrinsic_dimension(alone), rel=0.1)


@pytest.mark.parametrize("dimensions", [1, 3, 8])
def test_without_groups_the_ratio_is_near_1(dimensions):
    points = torch.randn(1500, dimensions, generator=torch.Generator().manual_seed(5))
    assert ratio_of(GroupsByChance(1500, [10]), [points]) == pytest.approx(1, abs=0.3)


def test_more_is_expected_of_more_dimensions():
    """Between two distributions that are drawn, the logarithm is interpolated; outside, the nearest one counts."""
    by_chance = GroupsByChance(300, [6])
    points = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    found = []
    for drawn in (2, 3):
        distances, neighbours = neighbours_and_distances([torch.from_numpy(points[:, :drawn])], 10)
        found.append((intrinsic_dimension(distances), distances_from_separate_groups(neighbours, [6])[0]))
    (two, few), (three, more) = found

    def expected(dimension):
        return float(by_chance.expected(dimension)[0])

    assert expected(two) == pytest.approx(few)
    assert expected(math.sqrt(two * three)) == pytest.approx(math.sqrt(few * more))
    assert expected(0.2) == expected(0.1) < few < more < expected(8)
    assert expected(8) < expected(math.inf) == expected(100)


def test_a_continuum_is_not_taken_for_groups():
    """A hue that varies along a circle: its graph is nearer to ten parts than that of ten true groups in many
    dimensions that touch each other. Materials of ten kinds were divided by their paint this way.
    """
    hue = cube(600, 1)
    groups, _ = blobs(10, each=60, width=20, apart=0.9)
    near = [
        distances_from_separate_groups(find_neighbours([points], 10), [10])[0] for points in (hue, groups)
    ]
    assert near[0] < near[1]
    by_chance = GroupsByChance(600, [10])
    assert ratio_of(by_chance, [groups]) < 0.5 < 0.7 < ratio_of(by_chance, [hue])


def rough_backgrounds(number):
    """One thing that varies a lot along a curve, such as the roughness of the background, and much that varies a
    little.
    """
    generator = torch.Generator().manual_seed(0)
    along = 3 * torch.randn(number, 1, generator=generator)
    return torch.cat([along, along.square() / 3, 0.5 * torch.randn(number, 30, generator=generator)], 1)


def test_a_continuum_with_noise_in_many_dimensions_is_not_taken_for_groups():
    """Regression: for objects in front of rough and smooth backgrounds, textures seemed the best cue."""
    rough, by_chance = rough_backgrounds(600), GroupsByChance(600, [10])
    found = by_chance.separation([rough])
    assert by_chance.ratio_by_dimension(found) < 0.35
    assert ratio_of(by_chance, [rough]) == by_chance.ratio_by_covariance(found) > 0.7
    groups, _ = blobs(10, each=60, width=20, apart=0.9)
    assert ratio_of(by_chance, [groups]) < ratio_of(by_chance, [rough]) / 1.5


def test_points_by_chance_have_the_covariance_of_the_vectors():
    mixing = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    vectors = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(2)) @ mixing + 7
    drawn = _normal_points_like(vectors)
    assert drawn.mean(0).abs().max() < 0.1
    torch.testing.assert_close(drawn.T.cov(), vectors.T.cov(), rtol=0.05, atol=0.2)


def test_points_by_chance_are_drawn_from_a_few_wide_vectors_without_a_matrix_of_width_by_width():
    """Regression: the eigenvectors of a few pictures' cues took half a minute; here they would need 300 GB."""
    vectors = torch.randn(4, 200_000, generator=torch.Generator().manual_seed(3))
    centred = vectors.double() - vectors.double().mean(0)
    drawn = _normal_points_like(vectors).double()
    inside = torch.linalg.lstsq(centred.T, drawn.T, driver="gelsd").solution  # X has the rank 3
    torch.testing.assert_close(centred.T @ inside, drawn.T, rtol=1e-4, atol=1e-4)
    assert 0.2 < drawn.square().mean() / centred.square().mean() < 3


@pytest.mark.parametrize("wanted", [[3], [3, 5, 10]])
def test_two_clear_groups_are_clear_if_more_are_looked_for(wanted):
    """The covariance of two groups is one large variance, and a line of points is easily cut into three parts."""
    groups, _ = blobs(2, each=80, width=20, apart=30)
    by_chance = GroupsByChance(160, wanted)
    found = by_chance.separation([groups])
    assert by_chance.ratio_by_covariance(found) < 0.01
    assert ratio_of(by_chance, [groups]) == by_chance.ratio_by_dimension(found)


def test_codes_that_are_not_finite_are_compared_without_an_error():
    """Regression: the eigenvalues of their covariance did not converge."""
    codes = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    codes[3, 1] = math.nan
    by_chance = GroupsByChance(60, [5])
    assert by_chance.ratio_by_covariance(by_chance.separation([codes])) == 1


def test_vectors_that_are_all_equal_are_no_groups():
    assert ratio_of(GroupsByChance(60, [5]), [torch.ones(60, 4)]) > 0.5


@pytest.mark.parametrize("number, groups", [(800, 1), (3, 5), (2, 2)])
def test_for_a_single_group_every_measure_is_equally_good(number, groups):
    generator = torch.Generator().manual_seed(0)
    by_chance = GroupsByChance(number, [groups])
    assert [ratio_of(by_chance, [torch.randn(number, d, generator=generator)]) for d in (1, 2, 8)] == [
        1,
        1,
        1,
    ]


def test_separate_groups_have_the_ratio_0():
    groups, _ = blobs(6, apart=1000)
    assert ratio_of(GroupsByChance(len(groups), [6]), [groups, groups]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("number", [2, 3, 5, 12])
def test_a_few_pictures_are_compared(number):
    points = torch.randn(number, 4, generator=torch.Generator().manual_seed(0))
    assert math.isfinite(ratio_of(GroupsByChance(number, [3]), [points]))


def test_of_several_numbers_the_geometric_mean_counts_and_the_smallest_ratio_of_these_and_two():
    groups, _ = blobs(4, each=60, width=6, apart=1)
    numbers = (3, 5, 10)

    def ratios(kind, groups_looked_for):
        by_chance = GroupsByChance(240, groups_looked_for)
        found = by_chance.separation([groups])
        if kind == "dimension":
            return by_chance.ratio_by_dimension(found)
        return by_chance.ratio_by_covariance(found)

    single = [ratios("dimension", [number]) for number in numbers]
    mean = np.prod([ratio + 0.01 for ratio in single]) ** (1 / 3) - 0.01
    assert ratios("dimension", numbers) == pytest.approx(mean, rel=1e-6)
    points = _normal_points_like(groups)
    near = [find_neighbours([each], GRAPH_NEIGHBOURS) for each in (groups, points)]
    ours, chance = (np.array(distances_from_separate_groups(each, [2, 3, 5, 10])) for each in near)
    smallest = (ours / chance).min()
    assert smallest > 0.01
    assert ratios("covariance", numbers) == pytest.approx(smallest, rel=1e-6)
    assert ratios("covariance", [10]) == pytest.approx((ours / chance)[[0, 3]].min(), rel=1e-6)
    assert ratio_of(GroupsByChance(240, numbers), [groups]) == pytest.approx(max(mean, smallest), rel=1e-6)


def test_three_clear_groups_are_clear_if_their_number_is_not_known():
    """Regression: they were compared as ten groups, which they are not; a continuum looked clearer."""
    groups, _ = blobs(3, each=80, width=20, apart=30)
    ratio = ratio_of(GroupsByChance(240, [3, 5, 10]), [groups])
    assert ratio < 0.2 < 0.5 < ratio_of(GroupsByChance(240, [10]), [groups])
    assert ratio_of(GroupsByChance(240, [3, 5, 10]), [cube(240, 1)]) > 0.6
