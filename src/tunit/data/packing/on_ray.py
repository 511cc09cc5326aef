"""Work on a Ray cluster, in order and with limited memory, as `map_in_threads` does it on one machine.

This uses Ray's tasks, not Ray Data, because results must come back in the order of the pictures, a few at a time.
Finished work can then be stored before the rest is done, and a killed job can be continued with the same bytes as
result. If a worker dies, Ray runs its task again.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from tunit.errors import ConfigError, TunitError

Item = TypeVar("Item")
Result = TypeVar("Result")

ENGINES = ("local", "ray")
_RETRIES = 5  # how often a task is repeated if its worker has died


def ray_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """The result of `work` for every item, in order. The cluster computes up to two items per core in advance.

    work and items are pickled. The cluster is the one at RAY_ADDRESS, or the one that `ray start` started on this
    machine. If none is running, one with this machine's cores is started, and it ends with this process. Raises what
    `work` raises, and TunitError if the cluster fails. If the caller stops early, the remaining work is cancelled.
    """
    ray = connected()
    ahead = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    task = ray.remote(_call).options(max_retries=_RETRIES, num_cpus=1)
    shared = ray.put(work)
    pending: deque[Any] = deque()
    try:
        for item in items:
            pending.append(task.remote(shared, item))
            if len(pending) > ahead:
                yield _answer(ray, pending.popleft())
        while pending:
            yield _answer(ray, pending.popleft())
    finally:
        for left in pending:
            ray.cancel(left, force=True)


def ray_map_in_chunks(
    work: Callable[[Item], Result], items: Iterable[Item], size: int
) -> Generator[Result, None, None]:
    """As `ray_map`, with tasks of `size` items each."""
    iterator = iter(items)
    chunks = iter(lambda: list(islice(iterator, size)), [])
    with closing(ray_map(partial(_each, work), chunks)) as results:
        for found in results:
            yield from found


def connected() -> Any:
    """Ray, connected to a cluster. Raises ConfigError if it is not installed, TunitError if there is no cluster."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            '--engine ray needs Ray: pip install "tunit[ray]", or leave the engine out'
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = str(error).strip().split("\n", 1)[0]
            raise TunitError(
                f"no Ray cluster can be used ({first}): check RAY_ADDRESS, or `ray start`"
            ) from None
    return ray


def _call(work: Callable[[Any], Any], item: Any) -> Any:
    return work(item)


def _each(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [work(item) for item in items]


def _answer(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):  # for example, if a worker cannot import tunit
            raise _failed(error.cause) from None
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise _failed(error) from None


def _failed(error: Exception) -> TunitError:
    first = str(error).strip().split("\n", 1)[0]
    return TunitError(f"the Ray cluster has failed ({first}): check it, and give the same command again")
