"""A grid of hyperparameters, every network at once: `lensjax grid`.

The paper's grid by default: 8 learning rates, 2 batch sizes, 3 seeds and 2 weights of
theta_E, each for five folds, 480 networks.  Learning rate, seed, weight and fold are
rows of one compiled program's arrays; the batch size is a shape, so that each has a
program of its own.  The same command with the same run_dir goes on after a stop.

    <run_dir>/batch_32/, batch_64/   metrics.jsonl and checkpoints/ of each program
    <run_dir>/members.csv            one row a choice of hyperparameters, best first

Parts of a grid can be trained elsewhere, by `-m` on a cluster say, below one folder;
`tables=DIR` gathers them in one table.
"""

import csv
import io
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from omegaconf import OmegaConf
from rich.table import Table as ScreenTable

from lensjax import catalogue as catalogues
from lensjax.commands import config, progress
from lensjax.commands.job import Job, cross_validation, loader_of, trained
from lensjax.commands.run_folder import open_run
from lensjax.commands.signals import Signals, Stopped, stop_on_signals
from lensjax.commands.train import prepare
from lensjax.evaluation import metrics
from lensjax.learning import folds, records
from lensjax.learning.loop import Stage
from lensjax.learning.members import members
from lensjax.learning.records import Record
from lensjax.storage import atomic, checkpoint

NO_CHOICE = (  # what makes no other network, or stands in every record
    "fold", "epoch", "train_loss", "val_loss", "images_per_second", "empty_slots",
    "run_dir", "tables", "devices", "checkpoint_seconds", "steps_per_dispatch",
    "keep_images", "stream", "epochs", "final",
    "learning_rates", "batch_sizes", "seeds", "weights_theta_E",
)  # fmt: skip
SHOWN = 10  # rows on the screen
RUNAWAY = 10.0  # a loss (eq. 6) that no prediction within a few arcsec can have


class Axes(NamedTuple):
    """The values that the hyperparameters take, each with each."""

    learning_rate: tuple[float, ...]
    batch_size: tuple[int, ...]
    seed: tuple[int, ...]
    weight_theta_E: tuple[float, ...]


def stage_of(job: Job, axes: Axes, batch_size: int) -> Stage:
    """Every network of one batch size, trained at once."""
    plan = job.plan
    choices = [
        plan.hyperparameters._replace(
            learning_rate=rate, seed=seed, weight_theta_E=weight
        )
        for rate, seed, weight in itertools.product(
            axes.learning_rate, axes.seed, axes.weight_theta_E
        )
    ]
    labels = [
        {
            "fold": fold,
            "learning_rate": c.learning_rate,
            "batch_size": batch_size,
            "seed": c.seed,
            "weight_theta_E": c.weight_theta_E,
        }
        for c in choices
        for fold in plan.folds
    ]
    alone = cross_validation(job)
    part = catalogues.split(job.listing.lens_id)
    lens_index = job.sample.systems.lens_index
    return alone._replace(
        folder=job.run_dir / f"batch_{batch_size}",
        members=members(job.folds, choices, plan.estimator.space),
        labels=labels,
        settings=plan.settings._replace(batch_size=batch_size),
        steps=folds.steps_per_epoch(part, lens_index, batch_size),
        keep_best=False,  # curves are asked for, not networks
        seconds_per_dispatch=5.0,
    )


def rows_of(records: list[Record], keys: Sequence[str] = Axes._fields) -> list[dict]:
    """One row for each choice of `keys`, from the records of its folds.

    The loss is the least of the mean validation curve; "" where no epoch has a finite
    one in every fold.  A fold has diverged if its last loss is not finite, or beyond
    `RUNAWAY` and on its way there.
    """

    def diverged(loss: float | None) -> bool:
        return loss is None or loss > RUNAWAY

    grouped = defaultdict(list)
    for record in records:
        grouped[tuple(record[name] for name in keys)].append(record)
    rows = []
    for choice, own in grouped.items():
        curve = metrics.mean_curve(own)
        finite = np.isfinite(curve).any()
        ends = {r["fold"]: r["val_loss"] for r in sorted(own, key=itemgetter("epoch"))}
        rows.append(
            dict(zip(keys, choice, strict=True))
            | {
                "best_epoch": int(np.nanargmin(curve)) + 1 if finite else "",
                "loss": round(float(np.nanmin(curve)), 6) if finite else "",
                "folds": len(ends),
                "diverged": sum(map(diverged, ends.values())),
                "epochs": len(curve),
            }
        )
    # losses of other weights are other losses
    return sorted(rows, key=lambda r: (r["weight_theta_E"], r["loss"] or np.inf))


def gather(folder: Path) -> list[dict]:
    """Rows of every part of a grid, and of every single run, below a folder.

    What else they differ in (a sweep of dropout, say) becomes a column.
    """
    found = []
    for path in sorted(folder.rglob("metrics.jsonl")):
        own = records.read(path)
        if path.parent.name == "final" or not own:
            continue
        part = "learning_rate" in own[0]  # of a grid, whose settings are above it
        settings = path.parent.parent if part else path.parent
        if (settings / "config.yaml").exists():
            asked = OmegaConf.to_container(OmegaConf.load(settings / "config.yaml"))
            asked = {k: str(v) if isinstance(v, list) else v for k, v in asked.items()}
            found += [asked | r for r in own]
    values = defaultdict(set)
    for record in found:
        for key, value in record.items():
            values[key].add(value)
    others = sorted(
        key
        for key, seen in values.items()
        if len(seen) > 1 and key not in (*Axes._fields, *NO_CHOICE)
    )
    return rows_of(found, (*Axes._fields, *others))


def write_table(folder: Path, rows: list[dict]) -> Path:
    """members.csv: all rows, best first within each weight."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic.write(folder / "members.csv", text.getvalue())
    return folder / "members.csv"


def show(rows: list[dict]) -> None:
    """The best rows of each weight on the screen."""
    for weight, own in itertools.groupby(rows, key=lambda r: r["weight_theta_E"]):
        table = ScreenTable(title=f"weight_theta_E = {weight:g}, best first")
        for name in rows[0]:
            table.add_column(name.replace("_", " "), justify="right")
        own = list(own)
        for row in own[:SHOWN]:
            table.add_row(*map(str, row.values()))
        progress.show(table, 100)
        lost = sum(r["diverged"] for r in own)
        progress.say(f"{len(own)} choices, {lost} networks diverged")


def run(settings: config.GridConfig) -> int:
    """Train the grid, or gather its parts.  Returns the status, as `train` does."""
    if settings.tables is not None:
        rows = gather(Path(settings.tables))
        if not rows:
            raise config.ConfigError(
                f"tables: no metrics.jsonl below {settings.tables}: give the run_dir "
                "of a grid or of a sweep"
            )
        path = write_table(Path(settings.tables), rows)
        show(rows)
        progress.say(f"all {len(rows)} in {path}")
        return 0
    run_dir = open_run(settings)
    try:
        with checkpoint.lock(run_dir), stop_on_signals() as signals:
            progress.say(
                f"grid {run_dir} (to resume it: the same command with "
                f"run_dir={run_dir})"
            )
            job = prepare(settings, run_dir)
            if not isinstance(job.catalogue.lenses.image, jax.Array):
                raise config.ConfigError(
                    f"data: {settings.data} is read from disk as it is due, a grid "
                    "keeps all in memory: give stream=false if it fits"
                )
            began = time.monotonic()
            axes = Axes(
                settings.learning_rates,
                settings.batch_sizes,
                settings.seeds,
                settings.weights_theta_E,
            )
            number = _train(job, axes, signals)
            rows = gather(run_dir)
            path = write_table(run_dir, rows)
            show(rows)
            if number:
                hours = (time.monotonic() - began) / 3600
                progress.say(f"{number} networks, {number / hours:,.0f} an hour")
            progress.say(f"all {len(rows)} in {path}")
    except Stopped as stopped:
        progress.say(f"stopped; the same command with run_dir={run_dir} goes on")
        return stopped.status
    except checkpoint.LockError as error:
        raise config.ConfigError(f"run_dir: {error}") from error
    except checkpoint.CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(job: Job, axes: Axes, signals: Signals) -> int:
    """Train what is not done; the number of networks that this call began and ended."""
    loader, number = None, 0
    for batch_size in axes.batch_size:
        stage = stage_of(job, axes, batch_size)
        done = stage.folder / "done.json"
        if done.exists():
            progress.say(f"batch size {batch_size}: done already")
            continue
        if loader is None:
            loader = loader_of(job, stage)
        begun = checkpoint.latest(stage.folder / "checkpoints") is not None
        progress.say(f"batch size {batch_size}: {len(stage.labels)} networks")
        trained(stage, loader, signals)
        atomic.write(done, json.dumps({"networks": len(stage.labels)}) + "\n")
        number += 0 if begun else len(stage.labels)
    return number
