"""Progress for people: a bar on a terminal, plain lines in a log."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

LINES_APART = 10.0  # [s] between lines in a log


@contextmanager
def track(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Show how `what` gets on; call the result with (done, note="", total=total).

    `done` of `total` counts in `unit`; the rate and the time that remains are shown.
    """
    start: list = []  # when and where it began: what was done before has no rate

    def pace(done: int, total: int) -> str:
        now = time.monotonic()
        start.extend([now, done] if not start else [])
        rate = (done - start[1]) / max(now - start[0], 1e-6)
        if rate <= 0:
            return ""
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        if done >= total:
            return f"{speed} {unit}/s, took {_clock(now - start[0])}"
        return f"{speed} {unit}/s, {_clock((total - done) / rate)} left"

    if not Console().is_terminal:
        last = [-float("inf")]

        def line(done: int, note: str = "", total: int = total) -> None:
            now = time.monotonic()
            speed = pace(done, total)
            if done < total and now - last[0] < LINES_APART:
                return
            last[0] = now
            parts = [f"{what}: {done:,} of {total:,} {unit}", speed, note]
            say(", ".join(p for p in parts if p))

        yield line
        return

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[note]}"),
    )
    with bar:
        task = bar.add_task(what, total=total, pace="", note="")

        def update(done: int, note: str = "", total: int = total) -> None:
            text = pace(done, total)
            bar.update(task, completed=done, total=total, pace=text, note=note)

        yield update


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def say(text: str) -> None:
    """Print a line at once, also into a pipe.

    Where it cannot be written (a pipe that was closed, a full disk) the work goes on,
    and nothing more is said.
    """
    try:
        print(text, file=sys.stdout, flush=True)
    except (OSError, ValueError):  # ValueError: a file that Python has closed
        silence()


def silence() -> None:
    """Let all that standard output is given from now on go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def show(table: Table, width: int) -> None:
    """Print a table as wide as the terminal, or so wide."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=width)
    with console.capture() as text:
        console.print(table)
    say(text.get().rstrip("\n"))
