"""Work by several processes: in order, and none outlives the one that started it."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context, parent_process
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from threading import Thread
from typing import Any

PATIENCE = 0.2  # [s] between two looks at whether a process has answered
ONE_THREAD = "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"
"""How many threads linear algebra has: one, in a command and in processes that help it.

More of them wait for each other by spinning: two processes on two cores, each with two
threads of OpenBLAS 0.3, take many times as long as one alone.
"""

AHEAD = 8  # chunks a process that wait for it, so that none is ever idle


def follow_parent() -> None:
    """Make this a helper: it ends at once with its parent, whatever ends that.

    SIGINT, which a terminal sends to all, is left to the parent.  Called in a process
    that multiprocessing started.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _nothing() -> None:
    pass  # by name: a process that is spawned is sent it


def ordered(
    work: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int,
    chunk: int = 1,
    idle: Callable[[], None] = _nothing,
    begin: Callable[[], None] = _nothing,
) -> Iterator[Any]:
    """What `work` makes of each item, in their order, whatever the number of processes.

    Items are sent `chunk` at a time.  `idle` is called several times a second while
    there is nothing to give; what it raises ends the work.  `begin` is what a process
    that helps does first.  With one process, or one chunk, all is done in this one.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        Where a process was killed, for want of memory perhaps.
    """
    chunks = [items[k : k + chunk] for k in range(0, len(items), chunk)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        yield from map(work, items)
        return
    # spawned: a forked process would inherit JAX's threads' locks
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (work, begin))
    waiting, left = deque(), iter(chunks)
    try:
        while True:
            for some in islice(left, AHEAD * workers - len(waiting)):
                waiting.append(_submit(pool, some))
            if not waiting:
                break
            while not wait([waiting[0]], PATIENCE).done:
                idle()
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, items: Sequence[Any]) -> Future:
    """Hand over work; where this starts a process, it inherits what is set here."""
    # SIGINT waits: it is for this process to judge
    before = pthread_sigmask(SIG_BLOCK, {SIGINT})
    told = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update({name: value or "1" for name, value in told.items()})
    try:
        return pool.submit(_do, items)
    finally:
        for name, value in told.items():
            if value is None:
                del os.environ[name]
        pthread_sigmask(SIG_SETMASK, before)


_work: Callable[[Any], Any]  # of a helping process


def _start(work: Callable[[Any], Any], begin: Callable[[], None]) -> None:
    global _work
    _work = work
    follow_parent()
    begin()


def _do(items: Sequence[Any]) -> list[Any]:
    return [_work(item) for item in items]


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
