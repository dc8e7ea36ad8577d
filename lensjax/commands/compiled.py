"""Compiled programs, kept for the next command: the first step comes sooner.

JAX's own cache, in the user's cache folder.  What JAX was told in its environment
(JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE ...) goes over all of this.
"""

import hashlib
import os
import platform
import tempfile
import time
from pathlib import Path

import jax
import platformdirs

from lensjax.commands import progress

LARGEST = 2 * 2**30  # [bytes]; what was not used for longest goes first
WORTH_IT = 0.1  # [s] of compilation
FORGOTTEN = 60.0  # [s] after which nobody is writing an entry any more


def keep() -> None:
    """Keep what is compiled from now on; says so when it is the first time.

    Without a folder that can be written to, all is compiled anew, as without this.
    """
    if (
        jax.config.jax_compilation_cache_dir is not None
        or not jax.config.jax_enable_compilation_cache
    ):
        return
    folder = platformdirs.user_cache_path("lensjax") / "compiled" / _machine()
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _mend(folder)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return
    if new:
        progress.say(
            f"compiled programs are kept in {folder}, at most {LARGEST / 2**30:.0f} GiB"
            " (JAX_COMPILATION_CACHE_DIR names another folder)"
        )
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": LARGEST,
        "jax_persistent_cache_min_compile_time_secs": WORTH_IT,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _machine() -> str:
    """Machines that run each other's programs: one name, also where homes are shared.

    Programs for CPUs use all that a processor can, and others may not know it.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    able = next((x for x in lines if x.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()}-{hashlib.sha256(able.encode()).hexdigest()[:8]}"


def _mend(folder: Path) -> None:
    """Remove entries that a killed process or a full disk has left unfinished.

    JAX (0.10) writes an entry, then when it was used, and neither evicts nor replaces
    one that lacks the latter.
    """
    for entry in folder.glob("*-cache"):
        used = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
        try:
            if not used.exists() and time.time() - entry.stat().st_mtime > FORGOTTEN:
                entry.unlink()
        except FileNotFoundError:  # another process did it
            pass
