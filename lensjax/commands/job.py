"""A run that is ready: what is trained beside what, and what its steps read."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lensjax.catalogue import Catalogue, Listing
from lensjax.commands import progress
from lensjax.commands.resolve import COSMOLOGY, Plan
from lensjax.commands.signals import Signals, Stopped
from lensjax.learning import dataset, loop
from lensjax.learning.dataset import Data
from lensjax.learning.folds import Folds
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.loop import Stage
from lensjax.learning.members import members
from lensjax.learning.step import State
from lensjax.mocks import online, proposals
from lensjax.mocks.online import Online
from lensjax.mocks.sample import Sample

KEEP_AT_MOST = 6e9  # bytes of images that are held in memory unasked
MOST_PROPOSALS = 4096  # in a slot of an online batch
STREAMED = 16  # steps whose galaxies are read from disk at a time


class Job(NamedTuple):
    """A run: where it goes, how it trains, and on what."""

    run_dir: Path
    plan: Plan
    catalogue: Catalogue
    listing: Listing
    sample: Sample
    folds: Folds
    final: Folds | None  # of the final network: all folds, the test set held out
    steps: int  # an epoch


def cross_validation(job: Job) -> Stage:
    """The folds of a run, side by side."""
    plan = job.plan
    return Stage(
        folder=job.run_dir,
        members=members(job.folds, [plan.hyperparameters], plan.estimator.space),
        labels=[{"fold": k} for k in plan.folds],
        estimator=plan.estimator,
        settings=plan.settings,
        steps=job.steps,
        epochs=plan.epochs,
        rendering=plan.rendering,
        online=online_of(job),
        checkpoint_seconds=plan.checkpoint_seconds,
        steps_per_dispatch=plan.steps_per_dispatch,
        devices=plan.devices,
        about=plan.about,
    )


def final_of(job: Job, stage: Stage, epochs: int) -> Stage:
    """The final network: it trains on all folds and is validated on none."""
    rows, plan = int(job.final.n_train[0]), job.plan
    return stage._replace(
        folder=job.run_dir / "final",
        members=members(job.final, [plan.hyperparameters], plan.estimator.space),
        labels=[{"fold": "final"}],
        steps=rows // plan.settings.batch_size,
        epochs=epochs,
        settings=plan.settings._replace(epochs=epochs),
        validates=False,
        keep_best=False,
    )


def loader_of(job: Job, stage: Stage) -> InMemory | FromDisk:
    """What the training step reads: images or galaxies in memory, or from disk."""
    plan, systems, galaxies = job.plan, job.sample.systems, job.catalogue
    if not isinstance(galaxies.lenses.image, jax.Array):
        return FromDisk(
            systems,
            galaxies,
            stage.members,
            stage.settings.batch_size,
            STREAMED,
            stage.steps,
            stage.validates,
        )
    rows = jax.tree.map(jnp.asarray, systems)
    survey = plan.rendering.survey
    side = survey.image_size
    shape = len(systems.number), side, side, len(survey.bands)
    seen = jax.eval_shape(plan.estimator.see, jax.ShapeDtypeStruct(shape, jnp.float32))
    size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(seen))
    keep, kept = plan.keep_images, None
    if keep is None:
        keep = jax.default_backend() == "cpu" and size < KEEP_AT_MOST
    if keep:
        with progress.track("rendering mocks", len(systems.number), "mocks") as update:
            make = partial(dataset.scenes, estimator=plan.estimator)
            kept = dataset.render_all(
                systems, galaxies, plan.rendering, update, make=make
            )
    if plan.online is None:
        return InMemory(Data(rows, galaxies if kept is None else None, kept))
    pool = proposals.pool(plan.key, galaxies, survey, plan.criteria, COSMOLOGY)
    share = jnp.asarray(online.thinning(job.sample, plan.criteria))
    return InMemory(Data(rows, galaxies, kept, pool, share))


def online_of(job: Job) -> Online | None:
    """How training systems are drawn within the step, if they are.

    A slot makes four times the proposals that the sample took for each source placed,
    where no other number is asked for.
    """
    asked = job.plan.online
    if asked is None:
        return None
    number = asked.proposals
    if not number:
        counts = job.sample.counts
        taken = counts["proposed"] / counts["placed"]
        number = min(max(32, round(4 * taken)), MOST_PROPOSALS)
    number = max(number, asked.candidates)
    progress.say(f"online: {number:,} proposals in each slot of a batch")
    return asked._replace(proposals=number)


def trained(stage: Stage, loader: InMemory | FromDisk, signals: Signals) -> State:
    """Train to the last epoch, with a bar; raises Stopped when a signal has come."""
    begun = loop.begin(stage)
    if begun.epoch or begun.step:
        progress.say(
            f"resumed after {begun.epoch} epochs and {begun.step} of {stage.steps} "
            "steps"
        )
    with progress.track("training", stage.images(), "images") as update:
        try:
            return loop.train(stage, loader, begun, update, signals.stop)
        except loop.Stopped:
            raise Stopped(signals.received) from None
