"""Rows in blocks of one shape, so that jit compiles once, and several at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


def rows(tree: Any, keep: Any) -> Any:
    """Rows of every array of a tree, on the host."""
    return jax.tree.map(lambda a: np.asarray(a)[keep], tree)


def joined(trees: Iterable[Any]) -> Any:
    """Trees of arrays, one behind the other."""
    return jax.tree.map(lambda *a: np.concatenate(a), *trees)


def of_size(pieces: Iterable[Any], size: int) -> Iterator[Any]:
    """Rows of `pieces`, in order, `size` at a time.

    A last, shorter block comes only when the pieces end.
    """
    held, n = [], 0
    for piece in pieces:
        held.append(piece)
        n += len(jax.tree.leaves(piece)[0])
        if n < size:
            continue
        together = joined(held)
        for first in range(0, n - size + 1, size):
            yield rows(together, slice(first, first + size))
        held, n = [rows(together, slice(n - n % size, n))], n % size
    if n:
        yield joined(held)


def ahead(function: Callable, blocks: Iterable) -> Iterator:
    """Results of `function` for each block, in order; each core works on one."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:
        running: deque = deque()
        for block in blocks:
            running.append(threads.submit(function, block))
            if len(running) > cores:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
