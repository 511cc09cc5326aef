"""How the processes of one start agree on a name for their entries in a store that may outlive them.

torchrun may keep its store when it starts the processes again. Then it still holds entries of the earlier processes:
their addresses, finished turns. A number of restarts cannot tell the starts apart: each machine's torchrun counts its
own, a torchrun that was itself started again begins at 0, and processes started again because a machine joined or
left are not counted.
"""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

POLL = 0.05  # seconds between two looks at the store


def name_of_this_start(store: "Store", number: int, size: int, limit: timedelta) -> str:
    """A name that only the processes which run now know: rank 0 chooses it, and tells it to each of the others.

    number: the rank of this process; size: how many processes there are. Raises RuntimeError if they do not all come
    within the time limit.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + limit.total_seconds()
    if number > 0:
        store.set(f"tunit/asks/{number}", own)
        _wait_until(lambda: store.check([f"tunit/answer/{own}"]), end)
        name = store.get(f"tunit/answer/{own}").decode()
        store.set(f"tunit/{name}/knows/{number}", own)
        return name
    answered: set[str] = set()

    def all_know() -> bool:
        """Answer what has been asked since the last call. Those that have ended may have left questions, too; so only
        the process that asked last as a rank counts.
        """
        everyone = True
        for other in range(1, size):
            asker = _entry(store, f"tunit/asks/{other}")
            if asker and asker not in answered:
                store.set(f"tunit/answer/{asker}", own)
                answered.add(asker)
            everyone &= asker != "" and _entry(store, f"tunit/{own}/knows/{other}") == asker
        return everyone

    _wait_until(all_know, end)
    return own


def _entry(store: "Store", key: str) -> str:
    """What the store holds under a key; empty if there is nothing yet."""
    return store.get(key).decode() if store.check([key]) else ""


def _wait_until(condition: Callable[[], bool], end: float) -> None:
    """Not a blocking wait, so that Python can handle signals."""
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("timed out")
        time.sleep(POLL)
