"""Work on threads: in order, bounded, errors in their place, nothing left running."""

import threading
import time

import pytest

from tunit.data.packing.overlap import map_in_threads


def slow_first(number):
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * 10


def test_results_come_in_the_order_of_the_items():
    assert list(map_in_threads(slow_first, range(20), ahead=5, threads=4)) == [10 * i for i in range(20)]
    assert list(map_in_threads(slow_first, [], ahead=5)) == []


def test_no_more_is_taken_ahead_than_allowed():
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


def test_it_does_run_beside_the_caller():
    """Two pieces of work that wait for each other: one thread alone would never finish."""
    meeting = threading.Barrier(2, timeout=20)
    assert len(list(map_in_threads(lambda _: meeting.wait(), range(2), ahead=2, threads=2))) == 2


def test_an_error_comes_where_the_result_would_have_come():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    stream, got = map_in_threads(work, range(9), ahead=4, threads=3), []
    with pytest.raises(ValueError, match="three"):
        while True:
            got.append(next(stream))
    assert got == [0, 1, 2]


def test_an_error_of_the_items_does_not_lose_those_before_it():
    def items():
        yield from range(3)
        raise ValueError("four")

    stream, got = map_in_threads(slow_first, items(), ahead=9), []
    with pytest.raises(ValueError, match="four"):
        for number in stream:
            got.append(number)  # noqa: PERF402
    assert got == [0, 10, 20]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_waits_is_dropped_when_the_caller_stops(error):
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
