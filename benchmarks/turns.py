"""Codes timed in turns, each in a process of its own.

JAXtronomy switches all of JAX to float64 when it is imported, and threads that PyTorch
or XLA leave spinning slow down whoever comes next in the same process: so each code has
its own, all wait while one works, and they take turns, so that a busy machine is busy
for all of them.
"""

import multiprocessing
import os
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
    """Time all contenders; RuntimeError with its traceback where one fails."""
    # several processes on one accelerator: none may take most of its memory
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    context = multiprocessing.get_context("spawn")
    children, found = {}, {}
    try:
        for c in contenders:  # one at a time: nobody compiles beside another
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, c))
            process.start()
            there.close()
            children[c.name] = process, here
            found[c.name] = _next(here, c.name)
        taking_part = [n for n, f in found.items() if not isinstance(f, Missing)]
        took: dict[str, list[float]] = {name: [] for name in taking_part}
        peak = dict.fromkeys(taking_part, 0)
        for _ in range(turns):
            for name in taking_part:
                time.sleep(REST)
                _, pipe = children[name]
                pipe.send("go")
                seconds, peak[name] = _next(pipe, name)
                took[name].append(seconds)
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


def _next(pipe, name: str):
    try:
        message = pipe.recv()
    except EOFError as error:
        raise RuntimeError(f"{name}: its process died") from error
    if isinstance(message, str):
        raise RuntimeError(f"{name} failed:\n{message}")
    return message


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
    except ModuleNotFoundError as error:
        pipe.send(Missing(contender.name, f"no module {error.name}"))
    except Exception:
        pipe.send(traceback.format_exc())


def _host(answer: Any) -> Any:
    """Arrays of any library as numpy's, lists and tuples of them as tuples."""
    if isinstance(answer, list | tuple):
        return tuple(_host(a) for a in answer)
    return None if answer is None else np.asarray(answer)
