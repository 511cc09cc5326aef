"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A training sets torch's number of threads for the whole process; reset it for the next test."""
    import torch

    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread for torch: with tiny networks, threads mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
