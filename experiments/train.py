"""Train networks on mocks: `python -m experiments.train fold=3`.

Draws or reads galaxies, draws a sample, trains one fold or all five side by side, and
ends with a summary and pictures in the run's folder.  The same command with the same
run_dir resumes a run that was stopped, and repeats nothing.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("train")

import jax
import jax.numpy as jnp
import numpy as np

from experiments import progress, provenance
from experiments.run import (
    Job,
    append,
    diverged,
    fingerprint,
    keep_epochs,
    network_settings,
    open_run,
    records_of,
    write,
)
from experiments.sample import SURVEY, catalogue_of, sample_of
from experiments.signals import Signals, Stopped, stop_on_signals
from experiments.summary import conclude, show
from lensjax import catalogue as catalogues
from lensjax import checkpoint, sample, tables, train
from lensjax.train import Data

KEEP_AT_MOST = 6e9  # bytes of images that keep_images=auto holds in memory


def prepare(settings: config.TrainConfig, run_dir: Path) -> Job:
    """Galaxies, sample and folds of a run; ConfigError where they have changed."""
    catalogue, listing = catalogue_of(settings)
    begun = (run_dir / "config.yaml").exists()
    if begun and fingerprint(run_dir / "provenance.json") != listing.fingerprint:
        raise config.ConfigError(
            f"data: {listing.origin} has changed since {run_dir} was begun (or the "
            "versions of jax have): start a new run_dir"
        )
    drawn = sample_of(settings, catalogue, listing)
    lens_index = drawn.systems.lens_index
    try:
        part = catalogues.split(listing.lens_id)
        folds = train.split_rows(part, lens_index, settings.folds)
        steps = train.steps_per_epoch(part, lens_index, settings.batch_size)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    if not begun:
        table = sample.to_table(drawn, catalogue, listing, SURVEY)
        tables.write(table, run_dir / "systems.parquet", overwrite=True)
        facts = provenance.collect(settings, listing) | {"sample": drawn.counts}
        write(run_dir / "provenance.json", json.dumps(facts, indent=2) + "\n")
        write(run_dir / "config.yaml", config.to_yaml(settings))
    return Job(settings, run_dir, catalogue, listing, drawn, folds, steps)


def data_of(job: Job) -> Data:
    """What the training step reads: rows to render, or images kept in memory."""
    settings, systems = job.settings, job.sample.systems
    size = len(systems.number) * np.prod(job.catalogue.lenses.image.shape[1:]) * 4
    on_cpu = jax.default_backend() == "cpu"
    keep = settings.keep_images
    if keep == "true" or (keep == "auto" and on_cpu and size < KEEP_AT_MOST):
        with progress.track("rendering mocks", len(systems.number), "mocks") as update:
            images = train.render_all(
                systems, job.catalogue, SURVEY, job.listing.source_pixel_scale, update
            )
        return Data(jax.tree.map(jnp.asarray, systems), None, images)
    return Data(jax.tree.map(jnp.asarray, systems), job.catalogue, None)


def fit(job: Job, data: Data, signals: Signals) -> train.State:
    """Train to the last epoch, from the latest checkpoint if there is one.

    Ends early where every fold has diverged.  Raises Stopped, the state saved, at the
    first step after a signal.
    """
    settings, steps = job.settings, job.steps
    program = train.compile(
        network_settings(settings),
        steps,
        len(settings.folds),
        SURVEY,
        job.listing.source_pixel_scale,
        jax.local_devices()[: settings.devices or None],
    )
    folder, metrics = job.run_dir / "checkpoints", job.run_dir / "metrics.jsonl"
    state = train.start(network_settings(settings), job.folds)
    epoch, step = 0, 0
    if checkpoint.latest(folder) is not None:
        saved = checkpoint.restore(folder, _saved(state, 0, 0))
        state, epoch, step = saved["state"], int(saved["epoch"]), int(saved["step"])
        progress.say(f"resumed after {epoch} epochs and {step} of {steps} steps")
    records = keep_epochs(metrics, epoch)
    state, folds = program.place((state, job.folds))
    # no step at all, to compile: neither a signal nor the clock need wait for it later
    state = program.run(state, folds, data, epoch, step, step)
    jax.block_until_ready(state.loss_sum)
    saved_at, dispatch = time.monotonic(), 1

    def save():
        nonlocal saved_at
        checkpoint.save(folder, epoch * steps + step, _saved(state, epoch, step))
        saved_at, signals.unsaved = time.monotonic(), False

    def due():
        return time.monotonic() - saved_at > settings.checkpoint_seconds

    def done():
        return (epoch * steps + step) * settings.batch_size * len(settings.folds)

    per_epoch = steps * settings.batch_size * len(settings.folds)
    with progress.track("training", settings.epochs * per_epoch, "images") as update:
        note = ""
        update(done())
        while epoch < settings.epochs and not diverged(records, settings.folds):
            seconds, from_step = 0.0, step
            while step < steps:
                to = min(step + dispatch, steps)
                began = time.monotonic()
                state = program.run(state, folds, data, epoch, step, to)
                jax.block_until_ready(state.loss_sum)
                step, signals.unsaved = to, True
                took = time.monotonic() - began
                seconds += took
                # about a second each: soon to stop, and few of them
                if took < 0.5:
                    dispatch = min(2 * dispatch, settings.steps_per_dispatch)
                elif took > 2:
                    dispatch = max(dispatch // 2, 1)
                if step < steps:
                    update(done(), note)
                if signals.received:
                    save()
                    raise Stopped(signals.received)
                if step < steps and due():
                    save()
            state, losses = program.finish(state, folds, data, epoch, steps)
            rate = (steps - from_step) * settings.batch_size / max(seconds, 1e-9)
            epoch, step = epoch + 1, 0
            new = records_of(settings.folds, epoch, losses, rate)
            append(metrics, new)
            records += new
            note = "validation loss " + " ".join(f"{v:.4f}" for v in losses[1])
            update(done(), note)
            if due():
                save()
        if signals.unsaved:
            save()
    if signals.received:
        raise Stopped(signals.received)
    return state


def _saved(state: train.State, epoch: int, step: int) -> dict[str, Any]:
    return {
        "state": state,
        "epoch": jnp.asarray(epoch, jnp.int32),
        "step": jnp.asarray(step, jnp.int32),
    }


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
                show(json.loads(path.read_text()), run_dir)
                return 0
            progress.say(
                f"run {run_dir} (to resume it: the same command with run_dir={run_dir})"
            )
            job = prepare(settings, run_dir)
            data = data_of(job)
            state = fit(job, data, signals)
            show(conclude(job, data, state), run_dir)
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


if __name__ == "__main__":
    config.main("train", run)
