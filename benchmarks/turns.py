"""Codes timed in turns, each in a process of its own.

JAXtronomy switches all of JAX to float64 when it is imported, and threads that PyTorch
or XLA leave spinning slow down whoever comes next in the same process: so each code has
its own, all wait while one works, and they take turns, so that a busy machine is busy
for all of them.
"""

import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

WARM = 0.05  # seconds that a turn lasts at least: short work is repeated within it
REST = 0.03  # seconds between turns


class Contender(NamedTuple):
    """A code and its work."""

    name: str
    make: Callable  # (*arguments) -> (run, units): run() does that many units of work
    arguments: tuple = ()
    rival: bool = False  # may be missing, or fail, without an end to the benchmark


class Timing(NamedTuple):
    """How long a contender took; seconds are for one unit of work."""

    name: str
    seconds: float  # median of the turns
    least: float
    turns: int
    units: int  # of work in a run
    first: float  # seconds of the first run, compilation included, set-up apart
    peak_MB: int  # of the process's memory
    answer: Any  # what its run returned, as numpy arrays


class Missing(NamedTuple):
    """A contender that cannot take part."""

    name: str
    why: str


def in_turns(contenders: list[Contender], turns: int) -> list[Timing | Missing]:
    """Time all contenders; RuntimeError, with its words, where one of ours fails."""
    context = multiprocessing.get_context("spawn")
    children, found = {}, {}
    try:
        for c in contenders:  # one at a time: nobody compiles beside another
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, c))
            process.start()
            there.close()
            children[c.name] = process, here
            found[c.name] = _next(here, c)
        took: dict[str, list[float]] = {c.name: [] for c in contenders}
        peak = dict.fromkeys(took, 0)
        for _ in range(turns):
            for c in contenders:
                if isinstance(found[c.name], Missing):
                    continue
                time.sleep(REST)
                _, pipe = children[c.name]
                pipe.send("go")
                told = _next(pipe, c)
                if isinstance(told, Missing):
                    found[c.name] = told
                    continue
                seconds, peak[c.name] = told
                took[c.name].append(seconds)
    finally:
        for process, pipe in children.values():
            pipe.close()  # the child ends when its pipe does
            process.join(10)
            process.kill()
    results: list[Timing | Missing] = []
    for c in contenders:
        if isinstance(found[c.name], Missing):
            results.append(found[c.name])
            continue
        units, first, answer = found[c.name]
        t = np.array(took[c.name]) / units
        results.append(
            Timing(
                c.name,
                float(np.median(t)),
                float(t.min()),
                turns,
                units,
                first,
                peak[c.name],
                answer,
            )
        )
    return results


def _next(pipe, contender: Contender):
    try:
        message = pipe.recv()
    except EOFError:
        message = "its process died"
    if not isinstance(message, str):
        return message
    if contender.rival:
        return Missing(contender.name, message.splitlines()[-1][:200])
    raise RuntimeError(f"{contender.name} failed:\n{message}")


def _work(pipe, contender: Contender) -> None:
    """Life of a contender's process."""
    try:
        run, units = contender.make(*contender.arguments)
        began = time.perf_counter()
        answer = _host(run())
        pipe.send((units, time.perf_counter() - began, answer))
        while True:
            pipe.recv()
            runs, began = 0, time.perf_counter()
            while (took := time.perf_counter() - began) < WARM:
                run()
                runs += 1
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            pipe.send((took / runs, peak))
    except EOFError:
        return
    except Exception:
        pipe.send(traceback.format_exc())


def _host(answer: Any) -> Any:
    """Arrays of any library as numpy's, lists and tuples of them as tuples."""
    if isinstance(answer, list | tuple):
        return tuple(_host(a) for a in answer)
    if hasattr(answer, "cpu"):  # PyTorch's, which may be on an accelerator
        answer = answer.cpu()
    return None if answer is None else np.asarray(answer)
