"""Fixtures for tests anywhere below."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A training run sets torch's threads for its process; the next test gets them back."""
    import torch

    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread for torch: on tiny networks threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
