"""Train networks on mocks: `python -m experiments.train fold=3`.

Draws or reads galaxies, draws a sample, trains one fold or all five side by side, and
ends with a summary and pictures in the run's folder.  The same command with the same
run_dir resumes a run that was stopped, and repeats nothing.
"""

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("train")

import jax
import jax.numpy as jnp

from experiments import progress, provenance
from experiments.feed import FromDisk, InMemory
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
from experiments.sample import (
    COSMOLOGY,
    catalogue_of,
    criteria_of,
    rendering_of,
    sample_of,
    survey_of,
)
from experiments.signals import Signals, Stopped, stop_on_signals
from experiments.summary import conclude, show
from lensjax import batches, checkpoint, endless, proposals, sample, tables, train
from lensjax import catalogue as catalogues
from lensjax.batches import Data
from lensjax.endless import Endless

KEEP_AT_MOST = 6e9  # bytes of images that keep_images=auto holds in memory
MOST_PROPOSALS = 4096  # in a slot of an endless batch
STREAMED = 16  # steps whose galaxies are read from disk at a time


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
        folds = batches.split_rows(part, lens_index, settings.folds)
        steps = batches.steps_per_epoch(part, lens_index, settings.batch_size)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    if not begun:
        table = sample.to_table(drawn, catalogue, listing, survey_of(settings))
        tables.write(table, run_dir / "systems.parquet", overwrite=True)
        facts = provenance.collect(settings, listing) | {"sample": drawn.counts}
        write(run_dir / "provenance.json", json.dumps(facts, indent=2) + "\n")
        write(run_dir / "config.yaml", config.to_yaml(settings))
    return Job(settings, run_dir, catalogue, listing, drawn, folds, steps)


def feed_of(job: Job) -> InMemory | FromDisk:
    """What the training step reads: images or galaxies in memory, or from disk."""
    settings, systems = job.settings, job.sample.systems
    rendering = rendering_of(settings, job.listing)
    galaxies = job.catalogue
    if not isinstance(galaxies.lenses.image, jax.Array):
        setup = network_settings(settings)
        return FromDisk(systems, galaxies, job.folds, setup, STREAMED, job.steps)
    bands = rendering.survey
    size = len(systems.number) * bands.image_size**2 * len(bands.bands) * 4
    on_cpu = jax.default_backend() == "cpu"
    keep, images = settings.keep_images, None
    if keep == "true" or (keep == "auto" and on_cpu and size < KEEP_AT_MOST):
        with progress.track("rendering mocks", len(systems.number), "mocks") as update:
            images = batches.render_all(systems, galaxies, rendering, update)
    rows = jax.tree.map(jnp.asarray, systems)
    if not settings.endless:
        return InMemory(Data(rows, galaxies if images is None else None, images))
    criteria = criteria_of(settings)
    key = jax.random.fold_in(jax.random.key(settings.sample_seed), 1)
    pool = proposals.pool(key, galaxies, bands, criteria, COSMOLOGY)
    share = jnp.asarray(endless.thinning(job.sample, criteria))
    return InMemory(Data(rows, galaxies, images, pool, share))


def fit(job: Job, feed: InMemory | FromDisk, signals: Signals) -> train.State:
    """Train to the last epoch, from the latest checkpoint if there is one.

    Ends early where every fold has diverged.  Raises Stopped, the state saved, at the
    first step after a signal.
    """
    settings, steps = job.settings, job.steps
    program = train.compile(
        network_settings(settings),
        steps,
        job.folds,
        rendering_of(settings, job.listing),
        jax.local_devices()[: settings.devices or None],
        endless_of(job),
    )
    folder, metrics = job.run_dir / "checkpoints", job.run_dir / "metrics.jsonl"
    state = train.start(network_settings(settings), job.folds.number)
    epoch, step = 0, 0
    if checkpoint.latest(folder) is not None:
        saved = checkpoint.restore(folder, _saved(state, 0, 0))
        state, epoch, step = saved["state"], int(saved["epoch"]), int(saved["step"])
        progress.say(f"resumed after {epoch} epochs and {step} of {steps} steps")
    records = keep_epochs(metrics, epoch)
    state, folds = program.place((state, job.folds))
    # no step at all, to compile: neither a signal nor the clock need wait for it later
    state = program.validate(state, folds, feed.validation(0, 0), 0, 0)
    state = program.run(state, folds, feed.training(epoch, step, step), epoch, 0, 0)
    jax.block_until_ready(state.loss_sum)
    saved_at = time.monotonic()
    pace = _Pace(feed, settings.steps_per_dispatch)

    def save():
        nonlocal saved_at
        checkpoint.save(folder, epoch * steps + step, _saved(state, epoch, step))
        saved_at, signals.unsaved = time.monotonic(), False

    def due():
        return time.monotonic() - saved_at > settings.checkpoint_seconds

    def heed_signals():
        if signals.received:
            save()
            raise Stopped(signals.received)

    def done():
        return (epoch * steps + step) * settings.batch_size * len(settings.folds)

    per_epoch = steps * settings.batch_size * len(settings.folds)
    with progress.track("training", settings.epochs * per_epoch, "images") as update:
        note = ""
        update(done())
        while epoch < settings.epochs and not diverged(records, settings.folds):
            seconds, from_step = 0.0, step
            while step < steps:
                to = min(step + pace.dispatch, steps)
                with pace.timed() as took:
                    data = feed.training(epoch, step, to)
                    state = program.run(state, folds, data, epoch, step, to)
                    jax.block_until_ready(state.loss_sum)
                step, signals.unsaved = to, True
                seconds += took()
                if step < steps:
                    update(done(), note)
                heed_signals()
                if step < steps and due():
                    save()
            state = state._replace(validation_sum=jnp.zeros_like(state.validation_sum))
            for block in range(0, program.blocks, pace.dispatch):
                to = min(block + pace.dispatch, program.blocks)
                data = feed.validation(block, to)
                state = program.validate(state, folds, data, block, to)
                jax.block_until_ready(state.validation_sum)
                heed_signals()
            empty = jax.device_get(state.empty) if settings.endless else None
            state, losses = program.finish(state, folds, epoch)
            rate = (steps - from_step) * settings.batch_size / max(seconds, 1e-9)
            epoch, step = epoch + 1, 0
            new = records_of(settings.folds, epoch, losses, rate, empty)
            append(metrics, new)
            records += new
            note = "validation loss " + " ".join(f"{v:.4f}" for v in losses[1])
            if empty is not None and empty.sum():
                share = empty.mean() / (steps * settings.batch_size)
                note += f", {share:.1%} of slots empty"
            update(done(), note)
            if due():
                save()
        if signals.unsaved:
            save()
    if signals.received:
        raise Stopped(signals.received)
    return state


class _Pace:
    """How many steps go into one dispatch: about a second's, soon to stop, and few."""

    def __init__(self, feed: InMemory | FromDisk, most: int):
        self.fixed = isinstance(feed, FromDisk)
        self.most = most
        self.dispatch = feed.dispatch if self.fixed else 1

    @contextmanager
    def timed(self):
        took = []
        began = time.monotonic()
        yield lambda: took[0]
        took.append(time.monotonic() - began)
        if self.fixed:
            return
        if took[0] < 0.5:
            self.dispatch = min(2 * self.dispatch, self.most)
        elif took[0] > 2:
            self.dispatch = max(self.dispatch // 2, 1)


def endless_of(job: Job) -> Endless | None:
    """How training systems are drawn within the step, if they are.

    A slot makes four times the proposals that the sample took for each source placed.
    """
    settings, number = job.settings, job.settings.proposals
    if not settings.endless:
        return None
    if not number:
        counts = job.sample.counts
        taken = counts["proposed"] / counts["placed"]
        number = min(max(32, round(4 * taken)), MOST_PROPOSALS)
    number = max(number, settings.candidates)
    progress.say(f"endless: {number:,} proposals in each slot of a batch")
    return Endless(criteria_of(settings), COSMOLOGY, number, settings.candidates)


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
            feed = feed_of(job)
            state = fit(job, feed, signals)
            show(conclude(job, feed, state), run_dir)
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
