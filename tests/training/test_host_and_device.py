"""A step and its batch on a device without values (meta): any read by the host fails, and copies are counted."""

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_run import tiny_config
from tunit.data.batching.batches import Batches, batch_permutation, make_batch
from tunit.machine import constant, to_device
from tunit.methods.descent import are_finite
from tunit.methods.differentiable_augment import InputKind, augment_of
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.training import in_progress
from tunit.training.initial_state import new_state

META = torch.device("meta")
JOINT = Phase(joint=True, average_generator=True, penalise=True)
ALONE = Phase(joint=False, average_generator=True, penalise=False)


class Copies(TorchDispatchMode):
    """Counts copies from the host to the device, and those for which the host waits. Reading a value fails."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.all = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and out.device == META:
            # With the tensors in a list, such as those by which a tensor is indexed.
            values = [part for value in args for part in (value if isinstance(value, list) else [value])]
            tensors = [value for value in values if isinstance(value, torch.Tensor)]
            # Single numbers are passed with the kernel, not copied.
            copied = any(value.device != META and value.dim() > 0 for value in tensors)
            self.all += copied
            self.waiting += copied and not kwargs.get("non_blocking", False)
        return out


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not support the meta device; here it does not matter."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("phase", "settings"),
    [
        (JOINT, {}),
        (ALONE, {}),
        (JOINT, {"discriminator_augment": 0.5}),
        (JOINT, {"lecam_weight": 0.3, "micro_batch": 2}),
    ],
)
def test_a_step_never_waits_for_the_device(phase: Phase, settings: dict[str, Any]) -> None:
    config = tiny_config(
        "default",
        crop_area=(0.1, 0.7),
        hue=0.1,
        saturation=0.4,
        neighbours_from=0.5,
        both_views=True,
        random_operations=2,
        domains=3,
        **settings,
    )
    state = new_state(config, META, 20)
    images = np.zeros((20, 32, 32, 3), np.uint8)
    batches = Batches(images, np.full(20, -1), config.augment, seed=0, device=META, resident_bytes=2**30)
    for step in range(2):  # in the second step, constants are already there
        with Copies() as copies:
            batch = batches.draw(step, 4, {"all": 0}, both=True)
            permutation = to_device(batch_permutation(0, step, 4), META)
            drawn = copies.all
            method_of(config).step(state, batch, permutation, phase, config)
        assert copies.waiting == 0
        # The step itself copies nothing, except for the random numbers of what D sees.
        assert copies.all == drawn + ("discriminator_augment" in settings)
        assert drawn > 0


def test_what_d_sees_is_made_without_lists_of_columns() -> None:
    """PyTorch copies such a list to the device out of sight of `Copies`, and the host waits for the copy."""
    augment = augment_of(0, 4, torch.tensor(0.5), tiny_config())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        augment(torch.zeros(2, 3, 32, 32), InputKind.FAKE, slice(1, 3))
    called = {event.key for event in profile.key_averages()}
    assert "aten::slice" in called
    assert "aten::index" not in called


@pytest.mark.usefixtures("on_meta")
def test_the_state_on_a_device_is_checked_although_optimisers_count_steps_on_the_cpu(monkeypatch) -> None:
    config, checked = tiny_config(domains=3), []
    state = new_state(config, META, 4)
    x = torch.zeros(4, 3, 32, 32, device=META)
    batch = make_batch(x, x.clone(), torch.full((4,), -1))
    terms = method_of(config).step(state, batch, torch.arange(4, device=META), JOINT, config)
    assert {term.device for term in terms.values()} == {META}

    def checked_on(tensors: list[torch.Tensor]) -> torch.Tensor:
        checked.append(tensors[0].device)
        are_finite(tensors)  # the result has no value on this device
        return torch.tensor(True)

    monkeypatch.setattr(in_progress, "are_finite", checked_on)
    training = SimpleNamespace(
        window=SimpleNamespace(check=lambda last: None), state=state, last_checkpoint=None
    )
    in_progress.check_finite(training)
    assert sorted(device.type for device in checked) == ["cpu", "meta"]


def test_constants_are_copied_once_and_autograd_may_save_them() -> None:
    with torch.inference_mode():
        first = constant((1.0, 2.0), torch.float32, torch.device("cpu"))
    assert constant((1.0, 2.0), torch.float32, torch.device("cpu")) is first
    x = torch.ones(2, requires_grad=True)
    (x * first).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0]
