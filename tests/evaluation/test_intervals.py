"""Bootstrap intervals, compared with known results of statistics."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from tunit.evaluation.intervals import MOST_RESAMPLED, Figure, mean_figure, resampled_figure


def test_interval_of_a_mean_equals_that_of_scipy():
    values = np.random.default_rng(0).exponential(size=400)
    ours = mean_figure(values)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert ours.value == pytest.approx(values.mean(), rel=1e-12)
    assert ours.low == pytest.approx(theirs.low, rel=0.02)
    assert ours.high == pytest.approx(theirs.high, rel=0.02)
    assert ours.number == 400


def test_interval_contains_the_true_value_as_often_as_it_should():
    rng = np.random.default_rng(3)
    inside = 0
    for i in range(200):
        figure = mean_figure(rng.normal(size=80), seed=i, repeats=300)
        inside += figure.low <= 0 <= figure.high
    assert 0.88 < inside / 200 < 0.99


def test_equal_values_have_an_interval_of_width_0_and_booleans_are_allowed():
    assert mean_figure(torch.ones(5, dtype=torch.bool)) == Figure(1.0, 1.0, 1.0, 5)


def test_the_interval_of_a_mean_of_many_values_lies_between_them():
    values = np.zeros(MOST_RESAMPLED + 1)
    values[0] = 1
    assert mean_figure(values).low == 0
    assert mean_figure(1 - values).high == 1


def test_resampled_interval_of_a_difference_of_means():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(900, 1, generator=generator), torch.randn(400, 1, generator=generator)
    figure = resampled_figure(lambda x, y: float(x.mean() - y.mean()), a, b, repeats=200)
    error = (1 / 900 + 1 / 400) ** 0.5
    assert figure.value == pytest.approx(float(a.mean() - b.mean()))
    assert (figure.high - figure.low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    assert figure.number == 400


def test_the_value_is_inside_its_interval():
    assert Figure(1.0, 1.1, 1.2, 3).low == 1.0
