"""From nothing to work: importing, and the first epoch of a training run.

    python -m benchmarks.beginning [--quick] [--out FILE.json]

Whole commands as a user starts them, and when their lines on the screen tell that a
stage is over.  Medians of three runs.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import command
from benchmarks.record import require, rounded

IMPORTS = ("jax", "lensjax", "lensjax.learning.train", "lensjax.commands.train")
STAGES = {
    "settings read": "run ",  # the first line
    "galaxies": " lens galaxies and ",
    "systems": "proposals: ",
    "first step": "training: 0 of ",  # images are kept and the step is compiled
    "first epoch": "validation loss",
}
TRAIN = ["-m", "experiments.train", "fold=3", "epochs=1"]


def importing(module: str) -> float:
    """Seconds of a Python process that imports one module and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def training(arguments: list[str], cache: str | None) -> dict:
    """Seconds from the start of a run to the end of each stage, and its memory [MB]."""
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    reached = {}
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, *TRAIN, *arguments, f"run_dir={folder}/run"]
        began = time.perf_counter()
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, text=True, env=environment
        )
        for text in process.stdout:
            for stage, words in STAGES.items():
                if words in text:
                    reached.setdefault(stage, time.perf_counter() - began)
        _, status, usage = os.wait4(process.pid, 0)
        reached["end"] = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        require(process.returncode == 0, f"{' '.join(line)} ends with {status}")
    missing = {*STAGES} - {*reached}
    require(not missing, f"a training run does not tell of {missing}")
    return reached | {"peak MB": usage.ru_maxrss // 1024}


def median(runs: list[dict]) -> dict:
    """Medians of several runs."""
    return {k: rounded(float(np.median([r[k] for r in runs]))) for k in runs[0]}


def measure(quick: bool) -> dict:
    """Imports and training runs, compilation cache cold and warm."""
    imports: dict[str, list[float]] = {module: [] for module in IMPORTS}
    for _ in range(1 if quick else 7):
        for module in IMPORTS:
            imports[module].append(importing(module))
    small = ["size=400", "n_lenses=100", "n_sources=60"]
    if quick:
        small = ["size=80", "n_lenses=80", "n_sources=40", "batch_size=8"]
    with tempfile.TemporaryDirectory() as cache:
        # where times are not asked for, what is compiled already may be taken
        found = os.environ.get("JAX_COMPILATION_CACHE_DIR") if quick else None
        runs = {"small": [training(small, found)]}
        if not quick:
            training(small, cache)  # fills it
            used, default = "small, compilation cache used", "as `make train` has it"
            runs |= {used: [], default: []}
            for k in range(3):
                runs["small"] += [training(small, None)] if k else []
                runs[used].append(training(small, cache))
                runs[default].append(training([], None))
    return {
        "imports": {k: rounded(float(np.median(v))) for k, v in imports.items()},
        "runs": {name: median(several) for name, several in runs.items()},
    }


if __name__ == "__main__":
    command.main(__doc__, measure)
