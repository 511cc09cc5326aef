"""How the threads of the networks wait for each other, in all commands.

By default a thread that waits keeps its core busy for about 3 ms before it sleeps (300,000 spins). If another process
needs this core, the thread that has work to do is then kept from working. With 1,000 spins a short training on two
cores took 0.65 of the time beside a busy process, and no longer than before on an idle machine (docs/performance.md,
"Beside other programs").
"""

import os

_VARIABLE, _SPINS = "GOMP_SPINCOUNT", "1000"  # of GNU OpenMP, which reads it when PyTorch is loaded


def sleep_soon() -> None:
    """Let waiting threads of this process, and of those that it starts, sleep soon, unless the user has chosen how
    they wait. Call it before PyTorch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(_VARIABLE, _SPINS)
