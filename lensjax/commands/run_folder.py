"""A training run's folder: whether it may be written to, and what was begun in it."""

import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from lensjax.commands import config, places
from lensjax.storage import parquet

# what may differ when a run goes on; whether the data is the same is for its
# fingerprint to say, not its path
FREE = (
    "run_dir", "data", "sources", "stream", "keep_images", "checkpoint_seconds",
    "steps_per_dispatch", "devices",
)  # fmt: skip


def open_run(settings: config.TrainConfig) -> Path:
    """The run's folder, new or to be resumed; ConfigError where it is another run's.

    It is a run's once config.yaml is there; how a run is computed may change later.
    """
    run_dir = Path(
        settings.run_dir
        or f"runs/{settings.sample}-fold{settings.fold}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    places.folder("run_dir", run_dir)
    path = run_dir / "config.yaml"
    if path.exists():
        before = config.from_yaml(path, type(settings))
        for name, value in vars(before).items():
            if name not in FREE and str(value) != str(getattr(settings, name)):
                raise config.ConfigError(
                    f"run_dir: {run_dir} holds a run with {name}={value}, not "
                    f"{getattr(settings, name)}: give it another folder"
                )
    return run_dir


def fingerprint(run_dir: Path) -> str:
    """Fingerprint of the galaxies that a run was begun with."""
    found = facts(run_dir, "provenance.json").get("catalogue")
    if not isinstance(found, dict) or "fingerprint" not in found:
        raise _damaged(run_dir / "provenance.json", "it names no catalogue")
    return found["fingerprint"]


def facts(run_dir: Path, name: str) -> dict[str, Any]:
    """What a JSON file of a run says; ConfigError where it is missing or damaged."""
    try:
        found = json.loads((run_dir / name).read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(run_dir / name, error) from error
    if not isinstance(found, dict):
        raise _damaged(run_dir / name, "it is no record")
    return found


def has_final(run_dir: Path) -> bool:
    """Whether a run has come to its end with a final network."""
    there = (run_dir / "summary.json").exists()
    return there and "final" in facts(run_dir, "summary.json")


def table(run_dir: Path, name: str) -> Table:
    """A table of a run; ConfigError where it is missing or damaged."""
    try:
        return parquet.read(run_dir / name)
    except (OSError, ValueError) as error:
        raise _damaged(run_dir / name, error) from error


def arrays(run_dir: Path, name: str) -> dict[str, np.ndarray]:
    """Arrays of a run, none of them of objects; ConfigError as for `table`."""
    try:
        with open(run_dir / name, "rb") as file:
            found = np.load(file, allow_pickle=False)
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise _damaged(run_dir / name, error) from error


def _damaged(path: Path, why: object) -> config.ConfigError:
    text = " ".join(str(why).split()).replace(f"{path}", "it")
    return config.ConfigError(
        f"run_dir: {path} is missing or damaged ({text}): copy it anew, or start a new "
        "run_dir"
    )
