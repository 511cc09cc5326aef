"""Work in threads, in order and in bounded memory, while the caller does something else."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tunit.data.decoding.workers import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 8  # more would only wait for the disk, or for Python's global interpreter lock


def map_in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int,
    threads: int | None = None,
    weight: Callable[[Item], int] = lambda item: 0,
    most: int = 0,
) -> Generator[Result, None, None]:
    """The result of `work` for every item, in order, computed up to `ahead` items in advance.

    The items themselves are taken in the caller's thread. An error in `work` is raised in place of its result. If the
    caller stops early, for whatever reason, work that has begun is finished and the rest is dropped.

    ahead: at least 1. threads: None is the number of cores, at most MOST_THREADS.
    weight, most: fewer items are taken in advance, but at least one, so that together they weigh no more than `most`.
    """
    pool = ThreadPoolExecutor(threads or min(usable_cores(), MOST_THREADS), thread_name_prefix="tunit")
    pending: deque[tuple[int, Future[Result]]] = deque()
    iterator, failure = iter(items), None
    try:
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except Exception as error:  # raised after the results of the items before it
                failure = error
                break
            pending.append((weight(item), pool.submit(work, item)))
            del item  # only the work holds it
            while len(pending) > ahead or (len(pending) > 1 and sum(heavy for heavy, _ in pending) > most):
                yield pending.popleft()[1].result()
        while pending:
            yield pending.popleft()[1].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        raise failure
