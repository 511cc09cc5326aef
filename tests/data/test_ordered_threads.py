"""Work in threads: results in order, a limit on the number, errors in their place, and no thread left at the end."""

import threading
import time

import pytest

from tunit.data.packing.ordered_threads import map_in_threads


def slow_first(number):
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * 10


def test_fewer_heavy_items_are_read_ahead():
    begun = []

    def taken():
        for i in range(12):
            begun.append(i)
            yield i

    results = map_in_threads(lambda i: i, taken(), ahead=5, weight=lambda i: 4 if i < 6 else 30, most=10)
    most = [len(begun) - i for i, _ in enumerate(results)]
    assert len(most) == 12
    assert max(most) == 3  # of weight 4, two are within 10, and a third had begun
    assert begun == list(range(12))


def test_results_come_in_the_order_of_the_items():
    assert list(map_in_threads(slow_first, range(20), ahead=5, threads=4)) == [10 * i for i in range(20)]
    assert list(map_in_threads(slow_first, [], ahead=5)) == []


def test_no_more_items_are_read_ahead_than_allowed():
    taken = []
    stop = threading.Event()

    def endless():
        while True:
            taken.append(len(taken))
            yield taken[-1]

    stream = map_in_threads(lambda number: stop.wait(0.001) or number, endless(), ahead=3, threads=2)
    for expected in range(10):
        assert next(stream) == expected
        assert len(taken) <= expected + 1 + 3
    stream.close()


def test_work_runs_at_the_same_time_as_the_caller():
    """Two functions that wait for each other: a single thread would never finish."""
    meeting = threading.Barrier(2, timeout=20)
    assert len(list(map_in_threads(lambda _: meeting.wait(), range(2), ahead=2, threads=2))) == 2


def test_an_error_is_raised_where_its_result_would_be():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    stream, got = map_in_threads(work, range(9), ahead=4, threads=3), []
    with pytest.raises(ValueError, match="three"):
        while True:
            got.append(next(stream))
    assert got == [0, 1, 2]


def test_results_before_an_error_of_the_items_are_not_lost():
    def items():
        yield from range(3)
        raise ValueError("four")

    stream, got = map_in_threads(slow_first, items(), ahead=9), []
    with pytest.raises(ValueError, match="four"):
        for number in stream:
            got.append(number)  # noqa: PERF402
    assert got == [0, 10, 20]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_waiting_work_is_dropped_when_the_caller_stops(error):
    done = []

    def work(number):
        time.sleep(0.005)
        done.append(number)

    before = threading.active_count()
    stream = map_in_threads(work, range(1000), ahead=50, threads=2)
    next(stream)
    with pytest.raises(error):
        stream.throw(error())
    assert threading.active_count() == before
    assert len(done) < 60
