"""The statistics of batch norms, taken over given batches, against NumPy's."""

import numpy as np
import torch
from torch import nn

from tunit.networks.batch_norm import BatchNorm2d, take_statistics


def network():
    torch.manual_seed(0)
    found = nn.Sequential(BatchNorm2d(3), nn.Conv2d(3, 4, 1), BatchNorm2d(4)).double()
    for norm in (found[0], found[2]):
        nn.init.uniform_(norm.running_mean, -5, 5)
        nn.init.uniform_(norm.running_var, 3, 9)
    return found


def batches(*sizes):
    torch.manual_seed(1)
    return [torch.randn(size, 3, 2, 2, dtype=torch.float64) * 3 + 1 for size in sizes]


def test_statistics_are_means_over_the_batches():
    given, found = batches(6, 6, 6), network()
    take_statistics(found, given)
    values = np.stack([x.transpose(0, 1).flatten(1).numpy() for x in given])  # (batches, channels, values)
    np.testing.assert_allclose(found[0].running_mean, values.mean(2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found[0].running_var, values.var(2, ddof=1).mean(0), rtol=1e-12)


def test_later_layers_see_what_they_see_in_training():
    """For one batch, evaluation then equals training, except that its variance is the unbiased one: n / (n - 1)."""
    (x,), found = batches(500), network()
    take_statistics(found, [x])
    found.train()
    expected = found(x)
    found.eval()
    torch.testing.assert_close(found(x), expected, rtol=0, atol=0.005)


def test_nothing_else_changes():
    found = network().eval()
    found[2].momentum = 0.3
    weights = [p.clone() for p in found.parameters()]
    take_statistics(found, batches(4, 4))
    assert (found[0].momentum, found[2].momentum) == (0.1, 0.3)
    assert not any(module.training for module in found.modules())
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), weights, strict=True))
    found.train()
    found(batches(4)[0])  # later batches count with the momentum again
    assert not found[0].running_mean.isnan().any()


def test_a_single_picture_has_no_statistics():
    whole, rest = network(), network()
    take_statistics(whole, batches(5))
    take_statistics(rest, [*batches(5), batches(1)[0]])
    assert torch.equal(whole[2].running_var, rest[2].running_var)
    before = [buffer.clone() for buffer in rest.buffers()]
    take_statistics(rest, batches(1))
    take_statistics(rest, [])
    assert all(torch.equal(a, b) for a, b in zip(rest.buffers(), before, strict=True))


def test_single_pictures_are_joined_to_pairs():
    whole, single = network(), network()
    given = batches(2, 2, 1)
    take_statistics(whole, given[:2])
    take_statistics(single, [x[None] for each in given for x in each])
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), single.buffers(), strict=True))


def test_an_error_leaves_the_modes_as_they_were():
    found = network().eval()
    try:
        take_statistics(found, [torch.zeros(4, 7, 2, 2)])
    except RuntimeError:
        pass
    assert (found[0].momentum, found.training, found[0].training) == (0.1, False, False)
