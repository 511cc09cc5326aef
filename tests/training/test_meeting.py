"""How the processes of one start find each other in a store that knows earlier starts."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from meeting_again import meet
from tunit.distributed.meeting import name_of_this_start

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its processes")
LIMIT = timedelta(seconds=20)


def test_processes_whose_launchers_have_counted_different_restarts_meet():
    """As after a machine was lost: its new torchrun counts from 0, the others go on counting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(meet, (port,), 2, daemon=True)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_each_start_agrees_on_a_name_of_its_own_in_the_same_store(size):
    """Also if some of an earlier start asked, and ended before they were answered or before all had come."""
    store = dist.HashStore()
    store.set("tunit/asks/1", "of a process that has ended")
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(size) as pool:
            asked = [pool.submit(name_of_this_start, store, rank, size, LIMIT) for rank in range(size)]
            (name,) = {each.result() for each in asked}
        names.append(name)
    assert len(set(names)) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_stays_alone_does_not_wait_for_ever(number):
    with pytest.raises(RuntimeError, match="timed out"):
        name_of_this_start(dist.HashStore(), number, 2, timedelta(seconds=0.2))
