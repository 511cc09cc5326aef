"""Activations and gradients of E, G and D have the channels last in memory, with the operations that a GPU uses."""

import traceback
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_run import tiny_config
from tunit.data.batching.batches import make_batch
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.networks import convolution, filter_response, instance_norm, layers, padding, penalised, winograd
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
BATCH, SIDE, WIDTH = 5, 32, 12  # no layer has as many channels as its pictures have rows
POOLED = SIDE // 32  # the side of the last features of E


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations for a GPU, on the CPU, whose convolutions choose their layout by the same rule."""
    for module in (winograd, filter_response):
        monkeypatch.setattr(module, "supports", lambda x: False)
    for module in (padding, winograd):
        monkeypatch.setattr(module, "by_pytorch", lambda x: False)
    monkeypatch.setattr(convolution, "_is_small", lambda x: False)
    monkeypatch.setattr(
        layers, "FEW_CHANNELS", 0
    )  # then ReflectConv2d does what convolve_to_few does on a GPU
    monkeypatch.setattr(
        penalised, "uses_own_gradients", lambda x: torch.is_grad_enabled() and not penalised.autocasts(CPU)
    )


class Layouts(TorchDispatchMode):
    """Which operations give pictures of features, or their gradients, that do not have the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.lost = 0, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor) and is_picture_of_features(value):
                self.seen += 1
                if value.stride(1) != 1:
                    self.lost[f"{func} for {place()}, {tuple(value.shape)}"] += 1
        return out


def is_picture_of_features(value: Tensor) -> bool:
    """Not kernels, nor lines at the edge of pictures, nor pictures themselves, whose three channels are few."""
    if value.dim() != 4 or not value.is_floating_point():
        return False
    number, channels, height, width = value.shape
    return number in (BATCH, 2 * BATCH) and channels > 3 and height == width > POOLED


def place() -> str:
    """The last line of the networks that is being executed; backward passes have none."""
    lines = [frame for frame in traceback.extract_stack() if "tunit/networks" in frame.filename]
    return f"{lines[-1].filename.rpartition('/')[2]}:{lines[-1].lineno}" if lines else "a gradient"


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("preset", "precision", "joint"),
    [
        ("paper", "float32", True),
        ("default", "float32", True),
        ("default", "bfloat16", True),
        ("default", "bfloat16", False),
    ],
)
def test_a_step_keeps_the_channels_last(
    preset: str, precision: str, joint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms, normalised = [], instance_norm._normalised

    def counted(x: Tensor, *parameters: Any) -> Tensor:
        y = normalised(x, *parameters)
        assert y.is_contiguous(memory_format=torch.channels_last)
        norms.append(y.requires_grad)
        return y

    monkeypatch.setattr(instance_norm, "_normalised", counted)
    widths = {f"{name}_width": WIDTH for name in ("guide", "generator", "discriminator")}
    config = tiny_config(preset, domains=3, image_size=SIDE, batch_size=BATCH, precision=precision, **widths)
    state = new_state(config, CPU, 20)
    x = torch.rand(BATCH, 3, SIDE, SIDE)  # as from the disk: the first layer changes the layout
    batch = make_batch(x, x.flip(3), torch.full((BATCH,), -1))
    with Layouts() as layouts:
        method_of(config).step(state, batch, torch.arange(BATCH), Phase(joint, True, joint), config)
    assert layouts.seen > (500 if joint else 50)
    # Instance norm puts the pixels of each channel side by side, so that one batch norm does all; afterwards, and
    # after its backward pass, the channels are last again.
    inside = [
        name for name in layouts.lost if "instance_norm.py" in name or "clone" in name or "view" in name
    ]
    clones = sum(layouts.lost[name] for name in inside if "clone" in name)
    assert clones == len(norms) + sum(norms)
    assert {name: number for name, number in layouts.lost.items() if name not in inside} == {}
