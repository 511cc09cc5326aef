"""The losses since the last line of metrics: how many are kept, their means, and what is found in them."""

import gc
import weakref

import pytest
import torch

from tunit.errors import NonFiniteError
from tunit.training.logs.window import LossWindow


def losses(number):
    random = torch.Generator().manual_seed(0)
    return [torch.rand((), generator=random) for _ in range(number)]


def test_a_checked_step_leaves_only_its_share_of_the_means():
    """Or a long time between two lines (--log-every 1000000) would fill the memory, and each check reread it all."""
    window, values = LossWindow(100), losses(40)
    expected = torch.stack(values).double().mean().item()
    alive = weakref.WeakSet()
    for i in range(40):
        loss, finite = values[i].clone(), torch.tensor(True)
        alive |= {loss, finite}
        window.add(
            {"loss": loss} | ({"rare": loss * 2} if i % 4 == 0 else {}), 8, 10, {"G": finite}, {"all": i}
        )
        del loss, finite
        if i % 10 == 9:
            window.check(None)
            gc.collect()
            assert len(alive) == 2  # those of the newest step, which the progress line may show
            assert window.first == 101 + i
            assert window.cursors_at(101 + i) == {"all": i}
            assert window.latest()["loss"] == values[i].item()
    means = window.flush(140, None)
    assert means["loss"] == pytest.approx(expected, rel=1e-12)
    assert means["rare"] == pytest.approx(2 * torch.stack(values[::4]).double().mean().item(), rel=1e-12)
    assert window.latest() == {}
    assert window.first == 141


@pytest.mark.parametrize("checks", [(), (2,), (2, 3), (1, 2, 3, 4)])
def test_means_are_the_same_whenever_steps_were_checked(checks):
    window, values = LossWindow(0), losses(5)
    for i, value in enumerate(values, start=1):
        window.add({"loss": value}, 1)
        if i in checks:
            window.check(None)
            window.check(None)
    assert window.flush(5, None)["loss"] == sum(value.item() for value in values) / 5


def test_a_value_that_is_not_finite_is_named_with_its_step_after_earlier_checks():
    window = LossWindow(10)
    for i in range(6):
        window.add({"loss": torch.tensor(float("nan") if i == 4 else 1.0)}, 1, cursors={"all": i})
        if i == 2:
            window.check(None)
    for _ in range(2):  # it stays an error until the window is emptied
        with pytest.raises(NonFiniteError, match="the loss loss is nan at step 15") as found:
            window.check(None)
        assert window.cursors_at(found.value.step) == {"all": 4}
    window.restart(12)
    window.add({"loss": torch.tensor(3.0)}, 1)
    assert window.flush(13, None)["loss"] == 3.0
