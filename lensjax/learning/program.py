"""The compiled pieces of a training run: some steps, some blocks, the end of an epoch.

They are of all members at once (`members`), and written here for one.  A dispatch is
some steps, or some blocks of held-out rows: few enough to be soon over.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax.learning import dataset, members, step
from lensjax.learning.dataset import Data
from lensjax.learning.estimator import Estimator
from lensjax.learning.members import Member
from lensjax.learning.step import Settings, State
from lensjax.mocks import batching
from lensjax.mocks.online import Online
from lensjax.mocks.system import Rendering


class Program(NamedTuple):
    """The compiled pieces of a training run."""

    run: Callable  # (state, members, data, epoch, first, last) -> state: some steps
    validate: Callable  # (state, members, data, first, last) -> state: some blocks
    finish: Callable  # (state, members, epoch) -> state, (train, validation) losses
    place: Callable  # (state or members) -> the same, on its devices
    steps: int  # an epoch
    blocks: int  # of held-out rows


class _Work(NamedTuple):
    """What a program is compiled for."""

    estimator: Estimator
    settings: Settings
    steps: int  # an epoch
    rendering: Rendering
    online: Online | None


def compile(
    estimator: Estimator,
    settings: Settings,
    steps: int,
    rows: Member,
    rendering: Rendering,
    devices: list | None = None,
    online: Online | None = None,
    renders: bool = True,
) -> Program:
    """Programs that train members (rows) at once, spread evenly over the devices.

    With `online`, training systems are drawn within the step; else they are the
    sample's rows.  renders: images are not all kept in memory already.
    """
    mesh = members.spread(len(rows.seed), devices or jax.local_devices())
    work = _Work(estimator, settings, steps, rendering, online)
    options = batching.one_thread() if renders or online else None
    return Program(
        run=members.each(partial(_run, work), mesh, 4, options),
        validate=members.each(partial(_validate, work), mesh, 3, options),
        finish=members.each(_finish, mesh, 1),
        place=partial(members.place, mesh),
        steps=steps,
        blocks=-(-rows.fold.validation.shape[1] // dataset.BLOCK),
    )


def _run(work: _Work, state, member, data, epoch, first, last) -> State:
    """Steps `first` to `last` of an epoch."""
    key, rows = members.key_of(member, epoch), members.order(member, epoch)
    size = work.settings.batch_size

    def one(number, state):
        own = jax.random.fold_in(jax.random.fold_in(key, 2), number)
        if work.online:
            batch = step.of_new_systems(
                own,
                member,
                size,
                data,
                work.rendering,
                work.online,
                work.estimator,
            )
        else:
            batch = step.of_sample(
                rows, number, size, data, work.rendering, work.estimator
            )
        dropout = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        total = epoch * work.steps + number
        return step.learn(
            state,
            member,
            batch,
            dropout,
            total,
            work.steps,
            work.estimator,
            work.settings,
        )

    # who diverged waits for the others, at no cost where members come one by one
    return jax.lax.cond(
        step.finite(state),
        lambda state: jax.lax.fori_loop(first, last, one, state),
        lambda state: state._replace(loss_sum=state.loss_sum + jnp.nan),
        state,
    )


def _validate(work: _Work, state, member, data, first, last) -> State:
    """Blocks `first` to `last` of the rows that the member's fold holds out."""
    fold = member.fold
    rows = dataset.blocks(fold.validation)
    counts = jnp.arange(rows.size).reshape(rows.shape) < fold.n_validation
    n = fold.n_validation.astype(state.validation_sum.dtype)

    def block(number, total):
        scenes = dataset.scenes_of(data, rows[number], work.rendering, work.estimator)
        systems = dataset.take(data.systems, rows[number])
        params = step.in_use(state)
        each = work.estimator.loss(params, scenes, systems, member.weights, None)
        return total + jnp.where(counts[number], each, 0).sum() / n

    total = jax.lax.cond(
        step.finite(state),
        lambda total: jax.lax.fori_loop(first, last, block, total),
        lambda total: jnp.full_like(total, jnp.nan),
        state.validation_sum,
    )
    return state._replace(validation_sum=total)


def _finish(state, member, epoch) -> tuple[State, tuple[Array, Array]]:
    """The end of an epoch: its losses, and its parameters if they are the best yet."""
    better = state.validation_sum < state.best_loss

    def best(new, old):
        return jnp.where(better, new, old)

    losses = state.loss_sum, state.validation_sum
    kept = bool(jax.tree.leaves(state.best_params))
    return state._replace(
        loss_sum=jnp.zeros_like(state.loss_sum),
        validation_sum=jnp.zeros_like(state.validation_sum),
        empty=jnp.zeros_like(state.empty),
        best_params=jax.tree.map(best, step.in_use(state), state.best_params)
        if kept
        else (),
        best_loss=best(state.validation_sum, state.best_loss),
        best_epoch=best(epoch + 1, state.best_epoch),
    ), losses


def predict(
    params: Any, rows: Array, data: Data, estimator: Estimator, rendering: Rendering
) -> Array:
    """Predictions (len(rows), n) of one network for rows of the sample."""

    def block(rows):
        scenes = dataset.scenes_of(data, rows, rendering, estimator)
        return estimator.predict(params, scenes.seen)

    predicted = jax.lax.map(block, dataset.blocks(rows))
    return predicted.reshape(-1, predicted.shape[-1])[: rows.shape[0]]
