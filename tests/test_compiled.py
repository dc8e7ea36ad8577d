"""Compiled programs are kept for the next command, and never in the way of one."""

import os
import subprocess
import sys

CODE = """
import jax, jax.numpy as jnp
from lensjax.commands import compiled
compiled.keep()
print(jax.jit(lambda x: jnp.sin(x) + 2)(1.0))
"""


def begun(home, **others):
    """What a new process says; the tests' own cache is not its."""
    env = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    env |= {"XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | others
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_programs_are_kept_and_it_is_said_once(tmp_path):
    first = begun(tmp_path)
    (folder,) = (tmp_path / "lensjax" / "compiled").iterdir()
    assert str(folder) in first[0] and "2 GiB" in first[0]
    entries = sorted(folder.glob("*-cache"))
    assert entries and begun(tmp_path) == first[1:]
    assert sorted(folder.glob("*-cache")) == entries
    # a process that was killed between an entry and its date, long ago
    torn = entries[0]
    torn.write_bytes(torn.read_bytes()[:10])
    os.utime(torn, (0, 0))
    torn.with_name(torn.name.removesuffix("-cache") + "-atime").unlink()
    assert begun(tmp_path) == first[1:] and torn.stat().st_size > 10


def test_without_a_folder_and_against_its_users_will_nothing_is_kept(tmp_path):
    (tmp_path / "lensjax").touch()  # no folder can be made there
    assert len(begun(tmp_path)) == 1
    off = begun(tmp_path / "b", JAX_ENABLE_COMPILATION_CACHE="false")
    assert len(off) == 1 and not (tmp_path / "b").exists()
    own = begun(tmp_path / "c", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert len(own) == 1 and (tmp_path / "own").is_dir()
    assert not (tmp_path / "c").exists()
