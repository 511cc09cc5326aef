"""Which GPU each of the processes that train together uses."""

import os

import torch

from tunit.errors import ConfigError, EndedInOtherProcesses


def sees_only_its_own() -> bool:
    """Whether the launcher shows this process a single GPU, its own, of those of the machine.

    srun of Slurm can do that (`--gpus-per-task 1`). torchrun, which sets the other variable, shows all to each.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ
    return launched and torch.cuda.device_count() == 1


def own_gpu() -> int:
    """The number of this process's GPU. Raises ConfigError if torch sees fewer GPUs than there are processes here."""
    if sees_only_its_own():
        return 0
    local, seen = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    here = max(local + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if here > seen:
        raise ConfigError(
            f"{here} processes train on this machine, but torch sees {seen} {'GPU' if seen == 1 else 'GPUs'}: start "
            "at most as many processes as GPUs (torchrun: --nproc-per-node), or set --device cpu"
        )
    return local


def take_gpu() -> None:
    """Use this process's own GPU. If there are too few, only the first process of the machine says so.

    Without LOCAL_WORLD_SIZE the first one does not know how many there are; then each without a GPU says so.
    """
    try:
        torch.cuda.set_device(own_gpu())
    except ConfigError:
        if "LOCAL_WORLD_SIZE" in os.environ and int(os.environ.get("LOCAL_RANK", "0")):
            raise EndedInOtherProcesses(2) from None
        raise


def is_same_gpu(error: BaseException) -> bool:
    """Whether an error of NCCL says that two processes take the same GPU: the only one that a launcher shows them."""
    return "Duplicate GPU detected" in str(error)
