"""Reading ahead: in order, no further than asked for, and errors where they belong."""

import threading

import pytest

from pnm.read_ahead import read_ahead


def test_reads_in_order_and_no_further_than_asked_for():
    started = []

    def read(item):
        started.append(item)
        return item * item

    found = read_ahead(read, range(7), 2)
    for n in range(7):
        assert next(found) == n * n
        assert max(started) <= n + 2
    assert list(found) == [] and sorted(started) == list(range(7))
    assert list(read_ahead(read, [], 2)) == [] and list(read_ahead(read, [3], 2)) == [9]


def test_reads_while_those_before_are_worked_on():
    second_is_read = threading.Event()

    def read(item):
        if item == 1:
            second_is_read.set()
        return item

    assert next(read_ahead(read, [0, 1], 2)) == 0 and second_is_read.wait(timeout=10)


def test_an_error_comes_in_its_turn():
    found = read_ahead(lambda item: 1 // item, [1, 0, 1], 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
