"""From nothing to work: importing, and the first epoch of a training run.

    python -m benchmarks.beginning [--quick] [--out FILE.json]

Whole commands as a user starts them.  The first step is over when the first epoch is,
less what the other steps took at the rate that the run reports; validation counts in.
How long each program takes to compile is in the other questions' first runs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import command
from benchmarks.record import require, rounded

IMPORTS = ("jax", "lensjax", "lensjax.train", "experiments.train")
TRAIN = ["-m", "experiments.train", "fold=3", "epochs=1"]


def importing(module: str) -> float:
    """Seconds of a Python process that imports one module and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def training(arguments: list[str], cache: str | None) -> dict:
    """Seconds of a training run to its first step, first epoch and end; its memory."""
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, *TRAIN, *arguments, f"run_dir={folder}/run"]
        metrics, began = Path(folder, "run", "metrics.jsonl"), time.perf_counter()
        process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        first = None
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if first is None and metrics.exists() and metrics.stat().st_size:
                first = time.perf_counter() - began
            if pid:
                break
            time.sleep(0.02)
        end = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        require(process.returncode == 0, f"{' '.join(line)} ends with {status}")
        record = json.loads(metrics.read_text().splitlines()[0])
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    epoch = np.ravel(summary["systems"]["training"])[0] / record["images_per_second"]
    return {
        "first step": rounded(first - epoch),
        "first epoch": rounded(first),
        "end": rounded(end),
        "peak MB": usage.ru_maxrss // 1024,
    }


def measure(quick: bool) -> dict:
    """Imports and training runs, compilation cache cold and warm."""
    imports: dict[str, list[float]] = {module: [] for module in IMPORTS}
    for _ in range(1 if quick else 7):
        for module in IMPORTS:
            imports[module].append(importing(module))
    small = ["size=400", "n_lenses=100", "n_sources=60"]
    with tempfile.TemporaryDirectory() as cache:
        # where times are not asked for, what is compiled already may be taken
        found = os.environ.get("JAX_COMPILATION_CACHE_DIR") if quick else None
        runs = {"small": training(small, found)}
        if not quick:
            runs |= {
                "small, compilation cache filled": training(small, cache),
                "small, compilation cache used": training(small, cache),
                "as `make train` has it": training([], None),
            }
    return {
        "imports": {k: rounded(float(np.median(v))) for k, v in imports.items()},
        "runs": runs,
    }


if __name__ == "__main__":
    command.main(__doc__, measure)
