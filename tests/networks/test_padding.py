"""Padding, compared with PyTorch's on the CPU, with first and second derivatives; and its operations on a GPU."""

import contextlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_run import tiny_config
from tunit.data.batching.batches import make_batch
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.networks.padding import Padded
from tunit.training.initial_state import new_state


@pytest.mark.parametrize("edge", ["reflect", "replicate"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 3), (0, 2)])
def test_values_and_gradients_equal_those_of_pytorch(edge: str, rows: int, columns: int) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = F.pad(x, (columns, columns, rows, rows), mode=edge)
    found = Padded.apply(x, rows, columns, edge)
    assert torch.equal(found, expected)
    weight = torch.randn_like(expected)
    (ours,), (theirs,) = (torch.autograd.grad((y * weight).sum(), x) for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda x: Padded.apply(x, rows, columns, edge).square(), x)


@pytest.mark.parametrize(("rows", "columns"), [(4, 0), (0, 5), (5, 7)])
def test_pictures_that_are_too_small_are_refused_like_in_pytorch(rows: int, columns: int) -> None:
    """The lines to copy would lie in the padding itself."""
    x = torch.randn(2, 3, 4, 5)
    with pytest.raises(RuntimeError, match="less than the corresponding input dimension"):
        F.pad(x, (columns, columns, rows, rows), mode="reflect")
    with pytest.raises(ValueError, match=f"reflection by {rows} x {columns} pixels needs more than 4 x 5"):
        Padded.apply(x, rows, columns, "reflect")


def test_the_layout_is_kept() -> None:
    x = torch.randn(2, 3, 4, 4)
    for layout in (torch.channels_last, torch.contiguous_format):
        assert Padded.apply(x.contiguous(memory_format=layout), 1, 1, "reflect").is_contiguous(
            memory_format=layout
        )


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_off_the_cpu_only_deterministic_operations_are_used(monkeypatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    config, meta = tiny_config(), torch.device("meta")
    state, x = new_state(config, meta, 4), torch.zeros(4, 3, 32, 32, device=meta)
    with Operators() as seen:
        batch = make_batch(x, x.clone(), torch.full((4,), -1))
        method_of(config).step(state, batch, torch.arange(4, device=meta), Phase(True, True, True), config)
    assert "convolution_backward" in seen.names
    assert [name for name in seen.names if "pad" in name and "backward" in name] == []
