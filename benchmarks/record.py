"""What is kept of a benchmark: rows of figures, and where they come from."""

import json
import os
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.turns import Missing, Timing

PACKAGES = (
    *("lensjax", "jax", "jaxlib", "flax", "optax", "numpy"),
    *("torch", "caustics", "jaxtronomy", "lenstronomy", "numba"),
)


def facts() -> dict:
    """Device, versions, commit and load, as plain JSON."""
    # here: a contender's process, which imports this module, may not want JAX
    import jax

    from lensjax.commands.provenance import commit

    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.device_kind if device.platform != "cpu" else processor(),
        "platform": device.platform,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # of the last minute, as it began
        "python": sys.version.split()[0],
        "commit": commit(),
        "versions": {p: v for p in PACKAGES if (v := _version(p))},
    }


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "CPU"
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else "CPU"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def row(work: str, found: Timing | Missing, **more) -> dict:
    """One code and its work, as the JSON has it.

    `seconds` and `least` are for one unit of work, `first run` is for `units` of them,
    and `compile` is what it took longer than a later run.
    """
    if isinstance(found, Missing):
        return {"work": work, "who": found.name, "missing": found.why}
    return {
        "work": work,
        "who": found.name,
        "seconds": rounded(found.seconds),
        "least": rounded(found.least),
        "turns": found.turns,
        "units": found.units,
        "first run": rounded(found.first),
        "compile": rounded(max(found.first - found.seconds * found.units, 0)),
        "peak MB": found.peak_MB,
        **more,
    }


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def require(condition: bool, claim: str) -> None:
    """End the benchmark where an answer is wrong: how fast it was does not matter."""
    if not condition:
        raise SystemExit(f"wrong answer: {claim}")


def read(path: Path) -> dict:
    """A device's results by question; none where there is no file yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, results: dict) -> None:
    """Results as JSON that one can read and compare line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".part")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)
