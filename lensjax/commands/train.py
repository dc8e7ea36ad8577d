"""Train networks on mocks: `lensjax train fold=3`.

Draws or reads galaxies, draws a sample, trains one fold or all five side by side, and
ends with a summary and pictures in the run's folder.  `fold=all final=true` goes on as
the paper does: the epoch at which the five validation curves' mean is least, a final
network trained for so long on all five folds, and the test set.  The same command with
the same run_dir resumes a run that was stopped, and repeats nothing.
"""

import json
import sys
from pathlib import Path

from lensjax import catalogue as catalogues
from lensjax.commands import config, progress, provenance
from lensjax.commands.job import Job, cross_validation, final_of, loader_of, trained
from lensjax.commands.resolve import catalogue_of, estimator_of, plan_of, sample_of
from lensjax.commands.run_folder import facts, fingerprint, open_run
from lensjax.commands.screen import show
from lensjax.commands.signals import Signals, Stopped, stop_on_signals
from lensjax.commands.summary import best_epoch, conclude, conclude_final, finish
from lensjax.learning import folds
from lensjax.learning.loader import FromDisk
from lensjax.mocks import sample
from lensjax.storage import atomic, checkpoint, parquet


def prepare(settings: config.TrainConfig, run_dir: Path) -> Job:
    """Galaxies, sample and folds of a run; ConfigError where they have changed."""
    estimator_of(settings)  # refused, if it is, before galaxies are read
    catalogue, listing = catalogue_of(settings)
    begun = (run_dir / "config.yaml").exists()
    if begun and fingerprint(run_dir) != listing.fingerprint:
        raise config.ConfigError(
            f"data: {listing.origin} has changed since {run_dir} was begun (or the "
            "versions of jax have): start a new run_dir"
        )
    drawn = sample_of(settings, catalogue, listing)
    plan = plan_of(settings, listing)
    lens_index = drawn.systems.lens_index
    try:
        part = catalogues.split(listing.lens_id)
        rows = folds.split_rows(part, lens_index, plan.folds)
        final = folds.final_rows(part, lens_index) if settings.final else None
        for size in getattr(settings, "batch_sizes", ()):  # of a grid
            folds.steps_per_epoch(part, lens_index, size)
        steps = folds.steps_per_epoch(part, lens_index, plan.settings.batch_size)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    if not begun:
        table = sample.to_table(drawn, catalogue, listing, plan.rendering.survey)
        parquet.write(table, run_dir / "systems.parquet", overwrite=True)
        origin = provenance.collect(settings, listing) | {"sample": drawn.counts}
        atomic.write(run_dir / "provenance.json", json.dumps(origin, indent=2) + "\n")
        atomic.write(run_dir / "config.yaml", config.to_yaml(settings))
    return Job(run_dir, plan, catalogue, listing, drawn, rows, final, steps)


def train_all(job: Job, signals: Signals) -> dict:
    """Train the folds and, if asked, the final network; the run's summary."""
    stage = cross_validation(job)
    loader = loader_of(job, stage)
    summary = conclude(job, stage, loader, trained(stage, loader, signals))
    if job.final is not None:
        epochs = best_epoch(job.run_dir)
        if epochs is None:
            progress.say("a fold diverged from the first: there is no final network")
        else:
            if summary["diverged"]:
                lost = ", ".join(map(str, summary["diverged"]))
                progress.say(
                    f"fold {lost} diverged: only the epochs before it did count for "
                    "the mean validation loss"
                )
            progress.say(
                f"the mean validation loss is least after {epochs} epochs: the final "
                "network trains for so long on all five folds"
            )
            stage = final_of(job, stage, epochs)
            if isinstance(loader, FromDisk):
                loader = loader_of(job, stage)
            state = trained(stage, loader, signals)
            summary |= {"final": conclude_final(job, stage, loader, state)}
    return finish(job, summary)


def run(settings: config.TrainConfig) -> int:
    """The main job.  Returns the exit status.

    0: trained, even where folds diverged, which the summary says.  1: a checkpoint is
    damaged or cannot be written.  128 + n: stopped by signal n.
    """
    run_dir = open_run(settings)
    try:
        with checkpoint.lock(run_dir), stop_on_signals() as signals:
            path = run_dir / "summary.json"
            if path.exists() and (run_dir / "config.yaml").exists():
                progress.say(f"run {run_dir} is finished: give another run_dir")
                show(facts(run_dir, path.name), run_dir)
                return 0
            progress.say(
                f"run {run_dir} (to resume it: the same command with run_dir={run_dir})"
            )
            job = prepare(settings, run_dir)
            show(train_all(job, signals), run_dir)
    except Stopped as stopped:
        progress.say(
            f"stopped; the same command with run_dir={run_dir} goes on from here"
        )
        return stopped.status
    except checkpoint.LockError as error:
        raise config.ConfigError(f"run_dir: {error}") from error
    except checkpoint.CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
