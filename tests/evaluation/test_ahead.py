"""Items that a thread makes ahead: in order, no more than allowed, their errors raised, no thread left."""

import threading
import time

import pytest

from cacl.threads import ahead


def test_items_come_in_order_and_no_more_than_allowed_are_made_ahead():
    made = []

    def items():
        for k in range(50):
            made.append(k)
            yield k

    taken = []
    for item in ahead(items(), 3):
        taken.append(item)
        time.sleep(0.001)
        # Three wait, one is held by the thread, one is about to be made.
        assert len(made) <= len(taken) + 5
    assert taken == list(range(50))


def test_an_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    got = ahead(items(), 4)
    assert next(got) == 1
    with pytest.raises(ValueError, match="broken"):
        next(got)


def test_who_stops_taking_ends_a_chain_of_threads_and_closes_what_makes_the_items():
    closed = []

    def items():
        try:
            k = 0
            while True:
                yield (k := k + 1)
        finally:
            closed.append(True)

    before = threading.active_count()
    first = ahead(items(), 2)
    second = ahead((2 * item for item in first), 2)
    assert [next(second), next(second)] == [2, 4]
    assert threading.active_count() == before + 2
    second.close()
    first.close()
    assert threading.active_count() == before and closed == [True]
