"""A strict house: nothing promoted silently, several devices, both precisions."""

import os
from pathlib import Path

# before numpy: threads of two test processes would wait for each other, spinning
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

MOST_PROGRAMS = 500  # compiled, at a time

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 5)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Mark what `slow.txt` names, by the beginning of a test's name."""
    listed = Path(__file__).with_name("slow.txt").read_text().splitlines()
    slow = tuple(f"tests/{line}" for line in listed if not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(slow):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One folder of compiled programs for all workers and the commands they start."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    options = {
        "jax_compilation_cache_dir": str(folder / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_compilation_cache_max_size": 2**33,  # with a limit comes a lock
    }
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(autouse=True)
def few_programs():
    """Let go of compiled programs: with thousands at hand each new one takes longer.

    By jaxlib 0.10.2 on a CPU a small one takes 44 ms beside none and 110 ms beside
    2,000 others; what is compiled again comes from `cache`.
    """
    yield
    if len(jax.devices()[0].client.live_executables()) > MOST_PROGRAMS:
        jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The precision of the test; float64 is switched on for its length alone."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def x64():
    """For tests that need finite differences or 1e-9: float64 alone."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20210)
