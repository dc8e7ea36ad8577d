"""Work by several processes: in order, told of its end, and one thread each."""

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from lensjax.storage import processes


def doubled(item):
    time.sleep(0.05 * (item % 3))
    return 2 * item, os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")


def killed(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def failing(item):
    if item == 2:
        raise ValueError("no such thing as 2")
    return item


def test_results_come_in_order_from_several_processes_of_one_thread(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    found = list(processes.ordered(doubled, list(range(20)), 2, chunk=3))
    assert [value for value, *_ in found] == [2 * k for k in range(20)]
    own = {pid for _, pid, _ in found}
    assert len(own) == 2 and os.getpid() not in own
    assert {threads for *_, threads in found} == {"1"}
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_one_process_or_one_chunk_is_this_one():
    for workers, chunk in ((1, 1), (4, 5)):
        found = list(processes.ordered(doubled, [1, 2, 3], workers, chunk))
        assert {pid for _, pid, _ in found} == {os.getpid()}


def test_a_failure_comes_out_where_it_happened():
    work = processes.ordered(failing, [0, 1, 2, 3], 2)
    assert next(work) == 0 and next(work) == 1
    with pytest.raises(ValueError, match="no such thing"):
        next(work)


def test_a_process_that_was_killed_is_told():
    with pytest.raises(BrokenProcessPool):
        list(processes.ordered(killed, list(range(6)), 2))


def test_what_idle_raises_ends_the_work():
    def idle():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(processes.ordered(time.sleep, [5.0, 5.0], 2, idle=idle))
