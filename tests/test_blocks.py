"""Rows in blocks: none lost, none twice, all in order."""

import threading

import numpy as np
import pytest

from lensjax.mocks import batching


@pytest.mark.parametrize("lengths", [(5, 0, 7, 1, 12), (3,), (8, 8), (), (0, 0)])
def test_blocks_hold_all_rows_in_order(lengths):
    numbers = np.arange(sum(lengths))
    pieces = np.split(numbers, np.cumsum(lengths)[:-1]) if lengths else []
    found = list(batching.of_size(((p, 2 * p) for p in pieces), 8))
    sizes = [len(a) for a, _ in found]
    assert sizes[:-1] == [8] * (len(sizes) - 1) and all(0 < s <= 8 for s in sizes)
    if found:
        first, second = (np.concatenate(c) for c in zip(*found, strict=True))
        np.testing.assert_array_equal(first, numbers)
        np.testing.assert_array_equal(second, 2 * numbers)
    else:
        assert not len(numbers)


def test_work_ahead_keeps_the_order_and_takes_no_more_than_it_needs():
    taken, gate = [], threading.Event()

    def source():
        for k in range(100):
            taken.append(k)
            yield k

    def slow_first(k):
        if k == 0:
            gate.wait(5)
        gate.set()
        return k * k

    results = batching.ahead(slow_first, source())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) < 50
    results.close()


@pytest.mark.parametrize(("n", "size"), [(10, 4), (3, 128), (8, 4), (1, 1)])
def test_what_is_made_in_blocks_is_in_order_and_of_one_shape(n, size):
    shapes = set()

    def made(numbers):
        shapes.add(numbers.shape)
        return numbers**2, {"both": np.stack([numbers, -numbers], -1)}

    squares, rest = batching.in_blocks(made, n, size)
    np.testing.assert_array_equal(squares, np.arange(n) ** 2)
    np.testing.assert_array_equal(rest["both"], np.arange(n)[:, None] * [1, -1])
    assert shapes == {(min(n, size),)}
