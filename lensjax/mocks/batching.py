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


def one_thread() -> dict[str, bool] | None:
    """Options of `jax.jit`: on a CPU a call is computed by one thread; None elsewhere.

    Blocks side by side then use the cores, just as fast, and the same bits come out
    every time.  Left to itself XLA (jaxlib 0.10.2) cuts a Fourier transform of many
    rows into shares for the threads that happen to be free, and rounds the last rows
    of a share otherwise than in the middle of one.
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_cpu_multi_thread_eigen": False}


def each(function: Callable, rows: Any) -> Any:
    """`function` of each row of a tree (N, ...).

    One after the other on a CPU, which then works within its cache; on an accelerator
    all at once.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, rows)
    return jax.vmap(function)(rows)


def in_blocks(
    function: Callable,
    n: int,
    size: int = 128,
    empty: Callable = np.empty,
    progress: Callable[[int], None] = lambda done: None,
) -> Any:
    """What `function` makes of the numbers 0 to n - 1, its rows on the host.

    It is given `size` numbers at a time, as an array; each core works on one block.
    empty: makes memory of a shape and a type.  progress: is told how many are done.
    """
    size = min(size, n)
    whole: Any = None

    def one(first: int) -> tuple[int, Any]:
        # the last block starts early rather than be of another shape
        first = min(first, n - size)
        made = function(np.arange(first, first + size, dtype=np.int32))
        return first, jax.tree.map(np.asarray, made)

    for first, made in ahead(one, range(0, n, size)):
        if whole is None:
            whole = jax.tree.map(lambda a: empty((n, *a.shape[1:]), a.dtype), made)
        for into, some in zip(*map(jax.tree.leaves, (whole, made)), strict=True):
            into[first : first + size] = some
        progress(min(first + size, n))
    return whole


def ahead(function: Callable, blocks: Iterable) -> Iterator:
    """Results of `function` for each block, in order; each core works on one."""
    cores, blocks = os.cpu_count() or 1, iter(blocks)
    for block in blocks:  # the first one alone, or each core would compile
        yield function(block)
        break
    with ThreadPoolExecutor(cores) as threads:
        running: deque = deque()
        for block in blocks:
            running.append(threads.submit(function, block))
            if len(running) > cores:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
