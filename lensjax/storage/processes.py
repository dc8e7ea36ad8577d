"""Processes that read files: they never outlive the one that started them."""

import os
import signal
from multiprocessing import parent_process
from threading import Thread


def follow_parent() -> None:
    """Make this a helper: it ends at once with its parent, whatever ends that.

    SIGINT, which a terminal sends to all, is left to the parent.  Called in a process
    that multiprocessing started.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
