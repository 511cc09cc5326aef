"""The queue of keys, compared with a deque."""

from collections import deque

import pytest
import torch

from tunit.networks.queue import push


@pytest.mark.parametrize("sizes", [[4] * 8, [1, 3, 2, 5, 1, 4], [10, 3], [17, 2, 10]])
def test_first_in_first_out(sizes: list[int]) -> None:
    torch.manual_seed(0)
    queue = torch.randn(10, 3)
    oracle = deque(queue.tolist(), maxlen=10)
    for n in sizes:
        keys = torch.randn(n, 3)
        queue = push(queue, keys)
        oracle.extend(keys.tolist())
        assert queue.tolist() == list(oracle)


def test_the_old_queue_does_not_change() -> None:
    """The losses' graph still refers to it."""
    old = torch.zeros(4, 2)
    new = push(old, torch.ones(2, 2))
    assert not old.any()
    assert new.sum() == 4


def test_the_queue_keeps_its_dtype_and_has_no_gradients() -> None:
    queue = push(torch.zeros(4, 2), torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))
    assert queue.dtype == torch.float32
    assert not queue.requires_grad
