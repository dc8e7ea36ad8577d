"""Folders that one process at a time writes to."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class LockError(RuntimeError):
    """A run folder that another process is writing to."""


@contextlib.contextmanager
def lock(run_dir: str | Path) -> Iterator[None]:
    """Hold a run folder for this process; LockError names the one that has it.

    Advisory (flock on ``<run_dir>/.lock``), released by the system when the process
    ends in whatever way.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise LockError(
                f"{run_dir} is in use by {holder}: wait for it, end it, or choose "
                "another run_dir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
