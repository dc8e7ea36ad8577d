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

import jax
import jax.numpy as jnp

from lensjax import catalogue as catalogues
from lensjax.commands import config, progress, provenance
from lensjax.commands.run_folder import (
    Job,
    fingerprint,
    hyperparameters,
    network_settings,
    open_run,
    write,
)
from lensjax.commands.sample import (
    COSMOLOGY,
    catalogue_of,
    criteria_of,
    rendering_of,
    sample_of,
    survey_of,
)
from lensjax.commands.signals import Signals, Stopped, stop_on_signals
from lensjax.commands.summary import best_epoch, conclude, conclude_final, finish, show
from lensjax.learning import batches, network, train
from lensjax.learning.batches import Data
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.loop import Stage, fit
from lensjax.mocks import online, proposals, sample
from lensjax.mocks.online import Endless
from lensjax.storage import checkpoint, parquet

KEEP_AT_MOST = 6e9  # bytes of images that keep_images=auto holds in memory
MOST_PROPOSALS = 4096  # in a slot of an endless batch
STREAMED = 16  # steps whose galaxies are read from disk at a time


def prepare(settings: config.TrainConfig, run_dir: Path) -> Job:
    """Galaxies, sample and folds of a run; ConfigError where they have changed."""
    try:
        network.validate(network_settings(settings).architecture)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
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
        final = batches.final_rows(part, lens_index) if settings.final else None
        for size in getattr(settings, "batch_sizes", ()):  # of a grid
            batches.steps_per_epoch(part, lens_index, size)
        steps = batches.steps_per_epoch(part, lens_index, settings.batch_size)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    if not begun:
        table = sample.to_table(drawn, catalogue, listing, survey_of(settings))
        parquet.write(table, run_dir / "systems.parquet", overwrite=True)
        facts = provenance.collect(settings, listing) | {"sample": drawn.counts}
        write(run_dir / "provenance.json", json.dumps(facts, indent=2) + "\n")
        write(run_dir / "config.yaml", config.to_yaml(settings))
    return Job(settings, run_dir, catalogue, listing, drawn, folds, final, steps)


def cross_validation(job: Job) -> Stage:
    """The folds of a run, side by side."""
    settings = job.settings
    return Stage(
        folder=job.run_dir,
        members=train.members(job.folds, [hyperparameters(settings)]),
        labels=[{"fold": k} for k in settings.folds],
        setup=network_settings(settings),
        steps=job.steps,
        epochs=settings.epochs,
        rendering=rendering_of(settings, job.listing),
        endless=endless_of(job),
        checkpoint_seconds=settings.checkpoint_seconds,
        steps_per_dispatch=settings.steps_per_dispatch,
        devices=settings.devices,
    )


def final_of(job: Job, stage: Stage, epochs: int) -> Stage:
    """The final network, trained on all folds and judged by none of its systems."""
    rows = int(job.final.n_train[0])
    return stage._replace(
        folder=job.run_dir / "final",
        members=train.members(job.final, [hyperparameters(job.settings)]),
        labels=[{"fold": "final"}],
        steps=rows // job.settings.batch_size,
        epochs=epochs,
        judged=False,
        keep_best=False,
    )


def feed_of(job: Job, stage: Stage) -> InMemory | FromDisk:
    """What the training step reads: images or galaxies in memory, or from disk."""
    settings, systems = job.settings, job.sample.systems
    rendering = rendering_of(settings, job.listing)
    galaxies = job.catalogue
    if not isinstance(galaxies.lenses.image, jax.Array):
        size, steps, judged = settings.batch_size, stage.steps, stage.judged
        return FromDisk(systems, galaxies, stage.members, size, STREAMED, steps, judged)
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
    share = jnp.asarray(online.thinning(job.sample, criteria))
    return InMemory(Data(rows, galaxies, images, pool, share))


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


def train_all(job: Job, signals: Signals) -> dict:
    """Train the folds and, if asked, the final network; the run's summary."""
    stage = cross_validation(job)
    feed = feed_of(job, stage)
    summary = conclude(job, stage, feed, fit(stage, feed, signals))
    if job.settings.final:
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
            if isinstance(feed, FromDisk):
                feed = feed_of(job, stage)
            state = fit(stage, feed, signals)
            summary |= {"final": conclude_final(job, stage, feed, state)}
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
                show(json.loads(path.read_text()), run_dir)
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
