"""EMA (moving averages of weights), compared with the closed form."""

import pytest
import torch
from torch import nn

from tunit.networks.ema import copy_and_freeze, update_ema


def network(value: float) -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    for parameter in made.parameters():
        nn.init.constant_(parameter, value)
    return made


@pytest.mark.parametrize("decay", [0.999, 0.5, 0.1])
def test_a_constant_is_approached_as_one_minus_decay_to_the_n(decay: float) -> None:
    average, live = network(0.0), network(1.0)
    for n in range(1, 21):
        update_ema(average, live, decay)
        for parameter in average.parameters():
            torch.testing.assert_close(
                parameter.data, torch.full_like(parameter, 1 - decay**n), atol=1e-14, rtol=0
            )
    assert all((p == 1).all() for p in live.parameters())


def test_the_average_of_a_moving_target_is_the_weighted_sum() -> None:
    average, decay = network(5.0), 0.7
    targets = [1.0, -2.0, 4.0, 0.5]
    for target in targets:
        update_ema(average, network(target), decay)
    n = len(targets)
    expected = decay**n * 5 + sum((1 - decay) * decay ** (n - 1 - i) * t for i, t in enumerate(targets))
    assert next(average.parameters()).flatten().tolist() == pytest.approx([expected] * 6, abs=1e-14)


def test_decay_0_is_an_exact_copy() -> None:
    torch.manual_seed(0)
    average, live = nn.Linear(20, 30), nn.Linear(20, 30)
    update_ema(average, live, 0.0)
    assert torch.equal(average.weight, live.weight)
    assert average.weight.data_ptr() != live.weight.data_ptr()


def test_decay_1_never_changes() -> None:
    average = network(0.25)
    update_ema(average, network(1.0), 1.0)
    assert all((p == 0.25).all() for p in average.parameters())


def test_batch_norm_statistics_are_copied() -> None:
    average, live = network(0.0), network(1.0)
    for _ in range(3):
        live(torch.randn(8, 2, dtype=torch.float64))
    update_ema(average, live, 0.999)
    for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
    assert average[1].num_batches_tracked == 3


def test_a_frozen_copy_has_the_values_and_no_gradients() -> None:
    live, twin = network(2.0), network(0.0)
    live(torch.randn(8, 2, dtype=torch.float64))
    copy = copy_and_freeze(live, twin)
    assert copy is twin
    assert not any(p.requires_grad for p in copy.parameters())
    assert all(p.requires_grad for p in live.parameters())
    for (name, mine), theirs in zip(copy.state_dict().items(), live.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    with torch.no_grad():
        live[0].weight.add_(1)
    assert (copy[0].weight == 2).all()


def test_an_update_has_no_gradients() -> None:
    average, live = network(0.0), network(1.0)
    update_ema(average, live, 0.9)
    assert all(p.is_leaf and p.grad is None for p in (*average.parameters(), *live.parameters()))
