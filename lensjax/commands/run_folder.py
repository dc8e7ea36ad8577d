"""A training run's folder: whether it may be written to, and what was begun in it."""

import json
from datetime import datetime
from pathlib import Path

from lensjax.commands import config, places

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


def fingerprint(path: Path) -> str:
    """Fingerprint of the galaxies that a run was begun with."""
    try:
        return json.loads(path.read_text())["catalogue"]["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise config.ConfigError(
            f"run_dir: {path} is missing or damaged ({error!r}): start a new run_dir"
        ) from error
