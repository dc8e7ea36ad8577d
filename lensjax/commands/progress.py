"""Progress for people: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

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
            print(", ".join(p for p in parts if p), flush=True)

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
    """Print a line at once, also into a pipe."""
    print(text, file=sys.stdout, flush=True)
