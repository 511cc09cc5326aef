"""One of two processes whose launchers have counted different numbers of restarts; a test starts it in a process."""

import os
from datetime import timedelta

import torch

from shared_steps import environment_of
from tunit.distributed import process_group
from tunit.distributed.collectives import largest_of_ranks


def meet(rank, port):
    os.environ |= environment_of(rank, 2, port) | {"TORCHELASTIC_RESTART_COUNT": str(1 - rank)}
    process_group.COLLECTIVE_TIMEOUT = timedelta(seconds=20)
    with process_group.process_group(torch.device("cpu")):
        assert largest_of_ranks(rank) == 1
