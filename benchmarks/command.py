"""What every question's command takes: --quick and --out."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import record

PLATFORM = "LENSJAX_BENCHMARKS_PLATFORM"  # JAX's, for PyTorch to take the same


def main(about: str, measure: Callable[[bool], dict]) -> None:
    """Measure, print the result as JSON, and write it."""
    parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="little work: does it run, is it right"
    )
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    # several processes on one accelerator: none may take most of its memory
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    began, facts = time.perf_counter(), record.facts()
    os.environ[PLATFORM] = facts["platform"]
    with tempfile.TemporaryDirectory() as nothing_compiled:
        if options.quick:  # numba takes longer to compile than a few systems take
            os.environ["NUMBA_DISABLE_JIT"] = "1"
        else:  # the time to compile is asked for
            os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{nothing_compiled}/torch"
            os.environ["NUMBA_CACHE_DIR"] = f"{nothing_compiled}/numba"
        found = measure(options.quick)
    result = {
        "quick": options.quick,
        "facts": facts,
        **found,
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        record.write(options.out, result)


def on_cpu() -> bool:
    """Whether JAX works on a CPU, as the question's own process has found."""
    return os.environ.get(PLATFORM, "cpu") == "cpu"


def torch_device() -> str:
    """The device on which PyTorch works beside JAX; RuntimeError where it has none."""
    import torch

    if on_cpu():
        return "cpu"
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device")
    # as JAX has it by default
    torch.set_float32_matmul_precision("high")
    return "cuda"
