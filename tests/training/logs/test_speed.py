"""Counted operations compared with closed forms, and a counted step with a plain one; shares of a given rate."""

import time

import pytest
import torch
import torch.nn.functional as F

from tiny_step import config_of, random_batch, random_state
from tunit import native
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.networks import winograd
from tunit.training.logs.speed import RATE_SECONDS, CountFlops, StepFlops, matrix_rate
from tunit.training.logs.window import LossWindow

JOINT = Phase(joint=True, average_generator=True, penalise=True)


def test_products_and_convolutions_count_two_operations_per_multiplication():
    a, b = torch.randn(5, 7), torch.randn(7, 11)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    with CountFlops() as count:
        a @ b
    assert count.total == 2 * 5 * 7 * 11
    with CountFlops() as count:
        F.conv2d(x, w, padding=1).sum().backward()
    forward = 2 * (2 * 8 * 8) * 4 * (3 * 3 * 3)
    assert count.total == 2 * forward  # the backward pass is for the kernels only: x needs no gradient


@pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off")
def test_compiled_convolutions_and_their_gradients_count_a_quarter():
    x, weight = torch.randn(8, 32, 8, 8, requires_grad=True), torch.randn(48, 32, 3, 3, requires_grad=True)
    plain = 2 * 8 * 8 * 8 * 48 * 32 * 9
    with CountFlops() as count:
        y = winograd.convolve(x, weight, None, "zeros")
        assert count.total == plain // 4
        dx, dw = torch.autograd.grad(y.sum(), (x, weight), create_graph=True)
        assert count.total == 3 * plain // 4
        torch.autograd.grad(dx.sum(), weight, retain_graph=True)
        torch.autograd.grad(dw.sum(), x)
        assert count.total == 5 * plain // 4


def test_the_share_is_operations_over_seconds_times_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    window = LossWindow(0, lambda: 1000.0)
    for _ in range(4):
        window.add({"loss": torch.tensor(1.0)}, 8, 500)
    now[0] += 16.0
    assert window.latest()["speed/mfu"] == pytest.approx(4 * 500 / 16 / 1000)
    means = window.flush(4, None)
    assert means["speed/pictures_per_second"] == pytest.approx(2.0)
    assert means["speed/seconds_per_step"] == pytest.approx(4.0)
    assert means["speed/mfu"] == pytest.approx(0.125)
    window.add({"loss": torch.tensor(1.0)}, 8, 500)
    window.add({"loss": torch.tensor(1.0)}, 8)  # E alone, or compiled: the number is not known
    now[0] += 1.0
    assert "speed/mfu" not in window.flush(6, None)


def test_the_rate_is_measured_once_in_little_time(monkeypatch):
    matrix_rate.cache_clear()
    rate = matrix_rate(torch.device("cpu"), torch.float32)
    assert 1e6 < rate < 1e15
    matrix_rate.cache_clear()
    now, readings = [0.0], []

    def clock() -> float:
        """Each reading is 10 ms after the one before, so each product seems to take 10 ms."""
        readings.append(now[0])
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    rate = matrix_rate(torch.device("cpu"), torch.float32, 32)
    assert rate == pytest.approx(2 * 32**3 / 0.01)
    assert RATE_SECONDS <= now[0] < RATE_SECONDS + 0.1
    taken = len(readings)
    assert matrix_rate(torch.device("cpu"), torch.float32, 32) == rate
    assert len(readings) == taken
    matrix_rate.cache_clear()


def test_counting_does_not_change_a_step_and_happens_once():
    config = config_of()
    flops = StepFlops()
    batch, permutation = random_batch(0, [-1] * 4, torch.float32)
    plain, counted = random_state(config, torch.float32), random_state(config, torch.float32)
    expected = method_of(config).step(plain, batch, permutation, JOINT, config)
    with flops.counting(JOINT, 4):
        found = method_of(config).step(counted, batch, permutation, JOINT, config)
    assert {name: value.item() for name, value in found.items()} == {
        name: value.item() for name, value in expected.items()
    }
    for name, network in plain.networks.named().items():
        for a, b in zip(network.parameters(), counted.networks.named()[name].parameters(), strict=True):
            assert torch.equal(a, b)
    once = flops.of(JOINT, 4)
    assert once and once > 4 * 10**6
    with flops.counting(JOINT, 4):
        torch.randn(3, 3) @ torch.randn(3, 3)
    assert flops.of(JOINT, 4) == once


def test_steps_of_e_alone_and_compiled_steps_are_not_counted():
    alone = Phase(joint=False, average_generator=False, penalise=False)
    for flops, phase in ((StepFlops(), alone), (StepFlops(countable=False), JOINT)):
        with flops.counting(phase, 4):
            torch.randn(3, 3) @ torch.randn(3, 3)
        assert flops.of(phase, 4) is None
