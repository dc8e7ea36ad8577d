"""One step of training: a batch, its gradient, an update, the running mean.

All functions are of one network; `members` puts several side by side.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lensjax.learning import dataset
from lensjax.learning.dataset import Data
from lensjax.learning.estimator import Estimator, Scene
from lensjax.learning.members import Member, key_of
from lensjax.mocks import online
from lensjax.mocks.online import Online
from lensjax.mocks.system import Rendering, System

WARM_UP = 0.03  # of the training, with a cosine


class Settings(NamedTuple):
    """How all members of a program learn; static under jit."""

    batch_size: int = 64
    optimizer: str = "sgd"  # or adam
    momentum: float = 0.9
    weight_decay: float = 5e-4
    average: float = 0.0  # decay a step of the running mean of parameters; 0: none
    schedule: str = "constant"  # of the learning rate, or cosine
    clip: float = 0.0  # longest gradient; 0: none
    epochs: int = 1  # at the end of which a cosine's learning rate is zero


class State(NamedTuple):
    """All that changes while training; each leaf has the members in front.

    Checkpoints name its leaves by these names.
    """

    params: Any
    optimizer: optax.OptState
    average: Any  # running mean of the parameters; () without one
    loss_sum: Array  # (R,) of this epoch's steps so far, over all of its steps
    validation_sum: Array  # (R,) of the held-out rows seen so far, over all of them
    empty: Array  # (R,) slots of this epoch's batches that found no system
    best_params: Any  # at the epoch with the least validation loss; () if not kept
    best_loss: Array
    best_epoch: Array  # counted from 1; 0 before the first


class Batch(NamedTuple):
    """What one step learns from."""

    systems: System  # (B,)
    scenes: Scene  # (B, ...), finite also where a system does not count
    counts: Array  # (B,) bool


def optimizer(
    settings: Settings, learning_rate: Array | float = 0.0
) -> optax.GradientTransformation:
    """SGD as PyTorch's, the weight decay in the momentum, or Adam with it apart."""
    if settings.optimizer == "adam":
        rule = optax.adamw(
            learning_rate, settings.momentum, weight_decay=settings.weight_decay
        )

        def update(*arguments):
            # optax takes a float to the power of a whole number of steps
            with jax.numpy_dtype_promotion("standard"):
                return rule.update(*arguments)

        return optax.GradientTransformation(rule.init, update)
    if settings.optimizer == "sgd":
        return optax.chain(
            optax.add_decayed_weights(settings.weight_decay),
            optax.sgd(learning_rate, momentum=settings.momentum),
        )
    raise ValueError(f"optimizer is sgd or adam, not {settings.optimizer!r}")


@functools.partial(jax.jit, static_argnames=("estimator", "settings", "keep_best"))
def start(
    estimator: Estimator, settings: Settings, members: Member, keep_best: bool = True
) -> State:
    """Untrained networks, one for each member, from its seed and its fold's number."""

    def one(member):
        params = estimator.init(key_of(member))
        return State(
            params=params,
            optimizer=optimizer(settings).init(params),
            average=jax.tree.map(jnp.copy, params) if settings.average else (),
            loss_sum=jnp.zeros(()),
            validation_sum=jnp.zeros(()),
            empty=jnp.zeros((), jnp.int32),
            # donated apart
            best_params=jax.tree.map(jnp.copy, params) if keep_best else (),
            # a weak type would compile twice
            best_loss=jnp.array(jnp.inf, jnp.float32),
            best_epoch=jnp.array(0, jnp.int32),
        )

    return jax.vmap(one)(members)


def in_use(state: State) -> Any:
    """Parameters that are validated and used: their running mean, where there is one.

    The mean (Polyak & Juditsky 1992) lacks the noise that a constant learning rate
    leaves in the last step's.
    """
    return state.average if jax.tree.leaves(state.average) else state.params


def finite(state: State) -> Array:
    """Whether one member's loss and parameters are finite: it has not diverged."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)]
    return jnp.isfinite(state.loss_sum) & jnp.stack(leaves).all()


def of_sample(
    rows: Array,
    number: Array,
    size: int,
    data: Data,
    rendering: Rendering,
    estimator: Estimator,
) -> Batch:
    """Batch `number` of an epoch that goes through these rows of the sample."""
    rows = jax.lax.dynamic_slice(rows, (number * size,), (size,))
    systems = dataset.take(data.systems, rows)
    scenes = dataset.scenes_of(data, rows, rendering, estimator)
    return Batch(systems, scenes, jnp.ones(size, bool))


def of_new_systems(
    key: Array,
    member: Member,
    size: int,
    data: Data,
    rendering: Rendering,
    settings: Online,
    estimator: Estimator,
) -> Batch:
    """A batch that nobody has seen, of the lenses that the member may train on."""
    systems, found = online.draw(
        key,
        size,
        (member.fold.lenses, member.fold.n_lenses),
        data.pool,
        data.catalogue,
        data.thinning,
        rendering,
        settings,
    )
    scenes = dataset.scenes(systems, data.catalogue, rendering, estimator)

    def counted(a: Array) -> Array:
        # what is not counted must be finite all the same
        return jnp.where(found.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.zeros_like(a))

    return Batch(systems, jax.tree.map(counted, scenes), found)


def learn(
    state: State,
    member: Member,
    batch: Batch,
    key: Array,
    number: Array,
    steps: int,
    estimator: Estimator,
    settings: Settings,
) -> State:
    """The state after one more step, `number` of all, of epochs of so many `steps`."""
    n = jnp.maximum(batch.counts.sum(), 1).astype(state.loss_sum.dtype)

    def mean_loss(params):
        each = estimator.loss(params, batch.scenes, batch.systems, member.weights, key)
        return jnp.where(batch.counts, each, 0).sum() / n

    value, gradient = jax.value_and_grad(mean_loss)(state.params)
    if settings.clip:
        length = optax.tree.norm(gradient)
        shorter = jnp.minimum(1, settings.clip / jnp.maximum(length, 1e-12))
        gradient = jax.tree.map(lambda g: g * shorter, gradient)
    rate = member.learning_rate * pace(number / (settings.epochs * steps), settings)
    update, opt_state = optimizer(settings, rate).update(
        gradient, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, update)
    return state._replace(
        params=params,
        optimizer=opt_state,
        average=_averaged(state.average, params, number, settings.average),
        loss_sum=state.loss_sum + value / steps,
        empty=state.empty + (~batch.counts).sum(dtype=state.empty.dtype),
    )


def pace(done: Array, settings: Settings) -> Array:
    """Share of the learning rate, when so much of the training is `done` (0 to 1)."""
    done = jnp.asarray(done, jnp.float32)
    if settings.schedule == "constant":
        return jnp.ones_like(done)
    if settings.schedule == "cosine":
        down = (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) / 2
        return jnp.minimum(1, (done + 1e-4) / WARM_UP) * down
    raise ValueError(f"schedule is constant or cosine, not {settings.schedule!r}")


def _averaged(average: Any, params: Any, number: Array, decay: float) -> Any:
    """The running mean with one more step in it; () where none is kept."""
    if not jax.tree.leaves(average):
        return average
    # the mean of all steps at first: where training began is soon forgotten
    number = number.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + number) / (10 + number))
    return jax.tree.map(lambda a, p: keep * a + (1 - keep) * p, average, params)
