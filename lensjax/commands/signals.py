"""How a run ends when it is told to: soon, and with nothing lost."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """A signal asked for the end; what was done is in the checkpoint."""

    def __init__(self, signum: int):
        self.status = 128 + signum


class Signals:
    """What SIGTERM and SIGINT have to say to a run."""

    received = 0  # the first one, if there was anything to save
    unsaved = False  # whether there is; else the process ends at once

    def stop(self, unsaved: bool) -> bool:
        """Whether one has come; from now on there is something to save, or nothing."""
        self.unsaved = unsaved
        return bool(self.received)


@contextmanager
def stop_on_signals() -> Iterator[Signals]:
    """End at SIGTERM or SIGINT: at once, or, with steps to save, after saving them.

    A second signal ends it at once in any case.  A thread listens: Python's own
    handlers wait while JAX compiles or computes, which may take minutes.
    """
    signals = Signals()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen():
        while byte := os.read(reader, 1):
            if signals.unsaved and not signals.received:
                signals.received = byte[0]
            elif byte[0] in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    os.write(2, b"\nstopped; the same command goes on from there\n")
                    if sys.__stdout__.isatty():
                        os.write(1, b"\x1b[?25h")  # the cursor, which a bar hides
                os._exit(128 + byte[0])

    handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writer)  # the thread reads the end
        thread.join()
        os.close(reader)
