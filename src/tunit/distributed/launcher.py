"""What the launcher of the processes says in the environment: ranks, machines, its job, and restarts.

The launcher is torchrun, `tunit train --processes`, or another program that sets RANK and WORLD_SIZE.
"""

import os

from tunit.distributed.collectives import world_size
from tunit.errors import ConfigError

# Environment variable that is set if `tunit train --processes` is the launcher, which then prints what died.
LAUNCHED = "TUNIT_LAUNCHED"


def ranks_of_environment() -> int:
    """The number of processes that a launcher started, including this one; 1 without a launcher. Raises
    ConfigError.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        if not os.environ.get(name, "0").isdecimal():
            raise ConfigError(
                f"{name} in the environment is {os.environ[name]!r}, not a number: start with torchrun, or unset it"
            )
    return max(1, int(size))


def is_another_rank() -> bool:
    """Whether this is one of several processes, and not the first."""
    return ranks_of_environment() > 1 and int(os.environ.get("RANK", "0")) > 0


def local_rank() -> int:
    """The rank of this process among the processes of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else 0


def ranks_of_machine() -> int:
    """How many of the processes that train together are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if world_size() > 1 else 1


def processes_here(processes: int) -> int:
    """How many of all processes are on this machine."""
    if ranks_of_environment() == 1:
        return max(1, processes)
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes))


def restarts() -> int:
    """How often the launcher of this machine says that it has started the processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def job() -> str:
    """The name of the launcher's job, which stays the same after a restart; "" without a launcher."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    # torchrun's default name is "none"; then the id of the launcher's process identifies the job.
    return f"{name}/{os.getppid()}" if name == "none" else name


def has_named_job() -> bool:
    """Whether the launcher was given a name for its job: then another launcher with this name is of the same job."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "none") not in ("", "none")
