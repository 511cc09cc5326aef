"""Hartigan's dip, compared with its definition (solved by linear programming) and with published critical values."""

import numpy as np
import pytest
from scipy.optimize import linprog

from tunit.clustering.dip import critical_dip, dip


def literal_dip(values):
    """The smallest d for which a unimodal G stays within d of F. G is convex up to its mode and concave after it.

    There is one linear programme for each place of the mode, where G may jump. Its variables are d and the values of
    G at the points: up to the mode (limits from the left), and from the mode on (limits from the right).
    """
    x, counts = np.unique(values, return_counts=True)
    above = np.cumsum(counts) / counts.sum()
    below = above - counts / counts.sum()
    best = 1.0
    for mode in range(len(x)):
        places = [*range(mode + 1), *range(mode, len(x))]
        rows, bounds = [], []

        def at_most(bound, *terms, rows=rows, bounds=bounds, places=places):
            row = np.zeros(len(places) + 1)
            for place, factor in terms:
                row[place] += factor
            rows.append(row), bounds.append(bound)

        for v, i in enumerate(places):
            near = {below[i]} if v == mode else {above[i]} if v == mode + 1 else {below[i], above[i]}
            for value in near:
                at_most(value, (v, 1), (-1, -1))
                at_most(-value, (v, -1), (-1, -1))
        for v in range(len(places) - 1):
            at_most(0, (v, 1), (v + 1, -1))
        for v in range(len(places) - 2):
            if v <= mode < v + 2:
                continue  # no constraint across the mode
            first, second = x[places[v + 1]] - x[places[v]], x[places[v + 2]] - x[places[v + 1]]
            if first and second:
                sign = 1 if v + 2 <= mode else -1
                at_most(
                    0,
                    (v + 1, sign / first),
                    (v, -sign / first),
                    (v + 2, -sign / second),
                    (v + 1, sign / second),
                )
        costs = np.zeros(len(places) + 1)
        costs[-1] = 1
        free = [(None, None)] * len(places) + [(0, None)]
        best = min(best, linprog(costs, A_ub=np.array(rows), b_ub=bounds, bounds=free).fun)
    return max(best, 0.5 / len(values))


@pytest.mark.parametrize("number", [1, 2, 6, 15])
@pytest.mark.parametrize(
    "shape",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.uniform(size=n),
        lambda rng, n: np.round(2 * rng.normal(size=n)),
        lambda rng, n: np.where(rng.random(n) < 0.5, 0, 5) + rng.normal(size=n),
        lambda rng, n: np.cumsum(rng.exponential(size=n) ** 3),
    ],
    ids=["normal", "uniform", "ties", "two heaps", "gaps"],
)
def test_dip_is_the_least_distance_from_a_unimodal_distribution(number, shape):
    values = shape(np.random.default_rng(number), number)
    assert dip(values) == pytest.approx(literal_dip(values), abs=1e-5)


def test_smallest_and_largest_dip():
    assert dip(np.arange(50.0)) == pytest.approx(1 / 100)
    assert dip(np.repeat([0.0, 1.0], 50)) == pytest.approx(1 / 4)
    assert dip(np.full(9, 3.0)) == pytest.approx(1 / 18)


@pytest.mark.parametrize("number, published", [(20, 0.1047), (50, 0.0702), (100, 0.0508), (200, 0.0370)])
def test_critical_dip_is_the_published_value(number, published):
    """5 % of uniform samples have a larger dip: Hartigan and Hartigan 1985, as recomputed by the R package."""
    assert critical_dip(number) == pytest.approx(published, rel=0.02)


def test_one_in_twenty_uniform_samples_exceeds_the_critical_dip():
    rng = np.random.default_rng(0)
    beyond = np.mean([dip(rng.uniform(size=70)) > critical_dip(70) for _ in range(600)])
    assert beyond == pytest.approx(0.05, abs=0.03)


def test_shifting_and_scaling_do_not_change_the_dip():
    values = np.random.default_rng(0).normal(size=100)
    assert dip(3 * values + 7) == pytest.approx(dip(values))
    assert dip(-values) == pytest.approx(dip(values))
