"""How the threads of the networks wait for each other while the studio runs.

By default a thread that waits keeps its core busy for a while before it sleeps. That is fastest if nothing else runs.
But beside the studio there is a browser, and maybe a training: on two busy cores, another style of the same source at
128 px took 0.2 to 0.5 s of CPU time, and 0.16 s if threads sleep sooner.
"""

import os

_VARIABLE, _SPINS = "GOMP_SPINCOUNT", "10000"  # of GNU OpenMP, which reads it when PyTorch is loaded


def sleep_soon() -> None:
    """Let waiting threads of this process sleep soon, unless the user has chosen how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(_VARIABLE, _SPINS)


def unchanged(environment: dict[str, str]) -> dict[str, str]:
    """An environment without what `sleep_soon` added: for trainings, which use most of the machine anyway."""
    return {name: value for name, value in environment.items() if (name, value) != (_VARIABLE, _SPINS)}
