"""A training run's folder: what belongs to it, what it trains on, its metrics."""

import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lensjax.catalogue import Catalogue, Listing
from lensjax.commands import config
from lensjax.commands.sample import survey_of
from lensjax.learning import network
from lensjax.learning.batches import Folds
from lensjax.learning.network import Architecture
from lensjax.learning.train import Hyperparameters, Settings
from lensjax.mocks.sample import Sample


class Job(NamedTuple):
    """All that a run trains on."""

    settings: config.TrainConfig
    run_dir: Path
    catalogue: Catalogue
    listing: Listing
    sample: Sample
    folds: Folds
    final: Folds | None  # of the final network: all folds, the test set held out
    steps: int  # an epoch


def hyperparameters(settings: config.TrainConfig) -> Hyperparameters:
    """The part of a configuration in which networks of one program may differ."""
    return Hyperparameters(
        settings.learning_rate,
        settings.seed,
        settings.weight_theta_E,
        settings.weight_center,
    )


def network_settings(settings: config.TrainConfig) -> Settings:
    """The part of a configuration that compiled programs depend on."""
    bands = survey_of(settings)
    return Settings(
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        average=settings.average,
        scaling=settings.scaling,
        zero_point=bands.zero_point,
        architecture=Architecture(
            size=bands.image_size,
            bands=len(bands.bands),
            channels=tuple(settings.channels),
            dense=tuple(settings.dense),
            dropout=settings.dropout,
            convolution=network.convolution_here(),
        ),
    )


def open_run(settings: config.TrainConfig) -> Path:
    """The run's folder, new or to be resumed; ConfigError where it is another run's.

    It is a run's once config.yaml is there; how a run is computed may change later.
    """
    run_dir = Path(
        settings.run_dir
        or f"runs/{settings.sample}-fold{settings.fold}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise config.ConfigError(
            f"run_dir: {run_dir}: {error.strerror}: give a folder you may write to"
        ) from error
    path = run_dir / "config.yaml"
    if path.exists():
        before = config.from_yaml(path, type(settings))
        # whether the data is the same is for its fingerprint to say, not its path
        free = {
            "run_dir",
            "data",
            "sources",
            "stream",
            "keep_images",
            "checkpoint_seconds",
            "steps_per_dispatch",
            "devices",
        }
        for name, value in vars(before).items():
            if name not in free and str(value) != str(getattr(settings, name)):
                raise config.ConfigError(
                    f"run_dir: {run_dir} holds a run with {name}={value}, not "
                    f"{getattr(settings, name)}: give it another folder"
                )
    return run_dir


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def fingerprint(path: Path) -> str:
    """Fingerprint of the galaxies that a run was begun with."""
    try:
        return json.loads(path.read_text())["catalogue"]["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise config.ConfigError(
            f"run_dir: {path} is missing or damaged ({error!r}): start a new run_dir"
        ) from error


def records_of(
    labels: list[dict], epoch: int, losses, rate: float, empty=None, judged: bool = True
) -> list[dict]:
    """One record a member of what an epoch came to, as metrics.jsonl has them.

    `empty`: slots of endless batches that found no system, where there are any.
    """

    def number(value):  # nan is no JSON: a member that diverged has null
        return float(value) if np.isfinite(value) else None

    records = [
        {
            **label,
            "epoch": epoch,
            "train_loss": number(train_),
            "val_loss": number(validation) if judged else None,
            "images_per_second": round(rate, 1),
        }
        for label, train_, validation in zip(
            labels, *map(np.asarray, losses), strict=True
        )
    ]
    for record, slots in zip(records, [] if empty is None else empty, strict=False):
        record["empty_slots"] = int(slots)
    return records


def append(path: Path, records: list[dict]) -> None:
    """Add records to a metrics file."""
    with path.open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)


def read_metrics(path: Path) -> list[dict]:
    """The records of a metrics file; a last line torn by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def keep_epochs(path: Path, epoch: int) -> list[dict]:
    """Drop the records of epochs that the checkpoint does not know and will repeat."""
    kept = [r for r in read_metrics(path) if r["epoch"] <= epoch]
    write(path, "".join(json.dumps(r) + "\n" for r in kept))
    return kept


def diverged(records: list[dict], members: int) -> bool:
    """Whether no member had a finite loss in the last epoch: they never recover."""
    last = records[-members:]
    return bool(last) and all(lost(r) for r in last)


def lost(record: dict) -> bool:
    """Whether a member's losses are no numbers any more."""
    return record["train_loss"] is None and record["val_loss"] is None
