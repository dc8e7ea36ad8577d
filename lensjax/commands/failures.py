"""What may go wrong with a machine, in one line that says what to do."""

import errno
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # what XLA calls it


def in_one_line(error: Exception, settings: Any) -> str | None:
    """A failure of memory or disk with its remedy; None for any other exception.

    settings: the command's, whose `batch_size` is the first to be lowered.
    """
    if isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and _OUT_OF_MEMORY in str(error)
    ):
        return f"out of memory: {_smaller(settings)}"
    if isinstance(error, BrokenProcessPool):
        return (
            "a process that helps was killed, for want of memory perhaps: give the same"
            " command again with workers=1; what was done before is kept"
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        what = _DISK.get(error.errno)
        if what:
            return f"{where}{what}: make room and give the same command again"
        return f"{where}{error.strerror}: what was done before is kept"
    if isinstance(error, ValueError | RuntimeError) and any(
        text in str(error) for text in ("No space left", "Disk quota exceeded")
    ):  # libraries that report the system's words alone
        return "the disk is full: make room and give the same command again"
    return None


def _smaller(settings: Any) -> str:
    """What to lower, and to how much."""
    size = getattr(settings, "batch_size", None)
    if isinstance(size, int) and size > 1:
        return f"try batch_size={size // 2}, or a machine with more memory"
    return "give it less at a time, or a machine with more memory"
