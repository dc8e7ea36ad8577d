"""Training: mocks rendered inside the step, networks side by side.

A member is one network: a fold of the data and the hyperparameters it learns with, a
row of every array here.  Rows never meet: one program trains them all and `shard_map`
spreads them over devices, so a member's curve does not depend on its company, not even
where that diverges.  Every random number comes from the member's seed by way of fold
and epoch; a resumed run draws what an uninterrupted one would have.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lensjax.learning import batches, network, scaling
from lensjax.learning.batches import Data, Folds
from lensjax.learning.network import Architecture
from lensjax.mocks.online import Endless, draw
from lensjax.mocks.system import Rendering, System

TARGETS = ("x", "y", "ex", "ey", "theta_E")
"""Outputs of the network, in the paper's order: x, y, theta_E in arcsec."""

BLOCK = 64  # images at a time where nothing is learnt
NETWORK_ZERO_POINT = 27.0  # AB magnitude of one count as networks see it


class Settings(NamedTuple):
    """What all members of a program share, beyond the data; static under jit."""

    batch_size: int = 64
    optimizer: str = "sgd"  # or adam
    momentum: float = 0.9
    weight_decay: float = 5e-4
    average: float = 0.0  # decay a step of the running mean of parameters; 0: none
    scaling: str = "none"  # of the images, see `scaling.scaled`
    zero_point: float = NETWORK_ZERO_POINT  # of the images
    architecture: Architecture = Architecture()


class Hyperparameters(NamedTuple):
    """What members of one program may differ in."""

    learning_rate: float = 0.001
    seed: int = 0  # of the network's first values and the order of its batches
    weight_theta_E: float = 1.0  # in the loss, before normalisation
    weight_center: float = 1.0  # of x and of y


class Member(NamedTuple):
    """Networks in training; each leaf has them in front, (R, ...)."""

    fold: Folds
    learning_rate: Array
    seed: Array
    weights: Array  # (R, 5) of `TARGETS` in the loss


class State(NamedTuple):
    """All that changes while training; each leaf has the members in front."""

    params: Any
    optimizer: optax.OptState
    average: Any  # running mean of the parameters; () without one
    loss_sum: Array  # (R,) of this epoch's steps so far, over all of its steps
    validation_sum: Array  # (R,) of the held-out rows judged so far, over all of them
    empty: Array  # (R,) slots of this epoch's batches that found no system
    best_params: Any  # at the epoch with the least validation loss; () if not kept
    best_loss: Array
    best_epoch: Array  # counted from 1; 0 before the first


def targets(systems: System) -> Array:
    """What the network shall answer: (..., 5) in the order of `TARGETS`."""
    s = systems.sie
    return jnp.stack([s.x, s.y, s.ex, s.ey, s.theta_E], -1)


def target_weights(weight_theta_E: float, weight_center: float = 1.0) -> np.ndarray:
    """The paper's w_l in the order of `TARGETS`; they sum to 5."""
    center = [weight_center, weight_center]
    weights = np.array([*center, 1, 1, weight_theta_E], np.float32)
    return weights * len(weights) / weights.sum()


def loss(outputs: Array, truth: Array, weights: Array) -> Array:
    """Weighted mean squared error of each system (Schuldt et al. 2021, eq. 6).

    (B, 5), (B, 5), (5,) -> (B,): average it over the batch for the paper's L.
    """
    return ((outputs - truth) ** 2 * weights[None, :]).mean(-1)


def members(folds: Folds, choices: Sequence[Hyperparameters]) -> Member:
    """Every fold with each of these hyperparameters: fold by fold within a choice."""
    n, f = len(choices), len(folds.number)

    def each(values, dtype):
        return jnp.repeat(jnp.asarray(np.asarray(values), dtype), f, axis=0)

    return Member(
        jax.tree.map(lambda a: jnp.tile(a, (n,) + (1,) * (a.ndim - 1)), folds),
        each([c.learning_rate for c in choices], jnp.float32),
        each([c.seed for c in choices], jnp.uint32),
        each(
            [target_weights(c.weight_theta_E, c.weight_center) for c in choices],
            jnp.float32,
        ),
    )


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


@functools.partial(jax.jit, static_argnames=("settings", "keep_best"))
def start(settings: Settings, members: Member, keep_best: bool = True) -> State:
    """Untrained networks, one for each member, from its seed and its fold's number."""

    def one(member):
        key = jax.random.fold_in(jax.random.key(member.seed), member.fold.number)
        params = network.init(jax.random.fold_in(key, 0), settings.architecture)
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


def order(member: Member, epoch: Array) -> Array:
    """Rows (T,) of one member's fold in the order in which an epoch trains on them."""
    key = jax.random.fold_in(_key(member, epoch), 0)
    return batches.shuffled(key, member.fold.train, member.fold.n_train)


def _key(member: Member, epoch: Array) -> Array:
    """Of all that is random in one epoch of one member."""
    key = jax.random.fold_in(jax.random.key(member.seed), member.fold.number)
    return jax.random.fold_in(key, 1 + epoch)  # 0 drew the untrained network


class Program(NamedTuple):
    """The compiled pieces of a training run."""

    run: Callable  # (state, members, data, epoch, first, last) -> state: some steps
    validate: Callable  # (state, members, data, first, last) -> state: some blocks
    finish: Callable  # (state, members, epoch) -> state, (train, validation) losses
    place: Callable  # (state or members) -> the same, on its devices
    steps: int  # an epoch
    blocks: int  # of held-out rows


def compile(
    settings: Settings,
    steps: int,
    members: Member,
    rendering: Rendering,
    devices: list | None = None,
    endless: Endless | None = None,
) -> Program:
    """Programs that train members at once, spread evenly over the devices.

    With `endless`, training systems are drawn within the step; else they are the
    sample's rows.
    """
    devices = devices or jax.local_devices()
    n_members = len(members.seed)
    used = max(d for d in range(1, len(devices) + 1) if n_members % d == 0)
    mesh = jax.make_mesh(
        (used,), ("member",), devices=devices[:used], axis_types=(_AUTO,)
    )
    spread, everywhere = P("member"), P()
    blocks = -(-members.fold.validation.shape[1] // BLOCK)

    def per_device(function, *specs):
        """Members over devices and, on each, side by side."""

        def rows(state, members, *others):
            return side_by_side(lambda s, m: function(s, m, *others), state, members)

        mapped = jax.shard_map(
            rows,
            mesh=mesh,
            in_specs=(spread, spread, *specs),
            out_specs=spread,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)

    def sampled(rows, number, key, member, data):
        start = number * settings.batch_size
        rows = jax.lax.dynamic_slice(rows, (start,), (settings.batch_size,))
        systems = batches.take(data.systems, rows)
        images = batches.images_of(data, rows, rendering)
        return systems, images, jnp.ones(settings.batch_size, bool)

    def fresh(rows, number, key, member, data):
        among = (member.fold.lenses, member.fold.n_lenses)
        systems, found = draw(key, settings.batch_size, among, data, rendering, endless)
        images = batches.render(systems, data.catalogue, rendering)
        # what is not counted must be finite all the same
        return systems, jnp.where(found[:, None, None, None], images, 0), found

    def averaged(average, params, step):
        # the mean of all steps at first: where training began is soon forgotten
        step = step.astype(jnp.float32)
        keep = jnp.minimum(settings.average, (1 + step) / (10 + step))
        if not jax.tree.leaves(average):
            return average
        return jax.tree.map(lambda a, p: keep * a + (1 - keep) * p, average, params)

    def run(state, member, data, epoch, first, last):
        key, rows = _key(member, epoch), order(member, epoch)

        def step(number, state):
            own = jax.random.fold_in(jax.random.fold_in(key, 2), number)
            batch = fresh if endless else sampled
            systems, images, counts = batch(rows, number, own, member, data)
            dropout = jax.random.fold_in(jax.random.fold_in(key, 1), number)
            n = jnp.maximum(counts.sum(), 1).astype(images.dtype)

            def mean_loss(params):
                outputs = answer(params, images, settings, key=dropout)
                each = loss(outputs, targets(systems), member.weights)
                return jnp.where(counts, each, 0).sum() / n

            value, gradient = jax.value_and_grad(mean_loss)(state.params)
            update, opt_state = optimizer(settings, member.learning_rate).update(
                gradient, state.optimizer, state.params
            )
            params = optax.apply_updates(state.params, update)
            return state._replace(
                params=params,
                optimizer=opt_state,
                average=averaged(state.average, params, epoch * steps + number),
                loss_sum=state.loss_sum + value / steps,
                empty=state.empty + (~counts).sum(dtype=state.empty.dtype),
            )

        # who diverged waits for the others, at no cost where members come one by one
        return jax.lax.cond(
            alive(state),
            lambda state: jax.lax.fori_loop(first, last, step, state),
            lambda state: state._replace(loss_sum=state.loss_sum + jnp.nan),
            state,
        )

    def validate(state, member, data, first, last):
        fold = member.fold
        rows = _blocks(fold.validation)
        counts = jnp.arange(rows.size).reshape(rows.shape) < fold.n_validation
        n = fold.n_validation.astype(state.validation_sum.dtype)

        def block(number, total):
            images = batches.images_of(data, rows[number], rendering)
            outputs = answer(judged(state), images, settings)
            truth = targets(batches.take(data.systems, rows[number]))
            each = loss(outputs, truth, member.weights)
            return total + jnp.where(counts[number], each, 0).sum() / n

        total = jax.lax.cond(
            alive(state),
            lambda total: jax.lax.fori_loop(first, last, block, total),
            lambda total: jnp.full_like(total, jnp.nan),
            state.validation_sum,
        )
        return state._replace(validation_sum=total)

    def finish(state, member, epoch):
        better = state.validation_sum < state.best_loss

        def best(new, old):
            return jnp.where(better, new, old)

        losses = state.loss_sum, state.validation_sum
        kept = bool(jax.tree.leaves(state.best_params))
        return state._replace(
            loss_sum=jnp.zeros_like(state.loss_sum),
            validation_sum=jnp.zeros_like(state.validation_sum),
            empty=jnp.zeros_like(state.empty),
            best_params=jax.tree.map(best, judged(state), state.best_params)
            if kept
            else (),
            best_loss=best(state.validation_sum, state.best_loss),
            best_epoch=best(epoch + 1, state.best_epoch),
        ), losses

    return Program(
        run=per_device(run, *[everywhere] * 4),
        validate=per_device(validate, *[everywhere] * 3),
        finish=per_device(finish, everywhere),
        place=lambda tree: jax.device_put(tree, NamedSharding(mesh, spread)),
        steps=steps,
        blocks=blocks,
    )


_AUTO = jax.sharding.AxisType.Auto


def judged(state: State) -> Any:
    """Parameters that are validated and used: their running mean, where there is one.

    The mean (Polyak & Juditsky 1992) lacks the noise that a constant learning rate
    leaves in the last step's.
    """
    return state.average if jax.tree.leaves(state.average) else state.params


def alive(state: State) -> Array:
    """Whether one member's loss and parameters are numbers."""
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)]
    return jnp.isfinite(state.loss_sum) & jnp.stack(finite).all()


def side_by_side(function: Callable, *rows: Any) -> Any:
    """`function` of each row: vectorised on an accelerator, one by one on a CPU.

    A CPU then works on one network at a time, which stays in its cache.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda row: function(*row), rows)
    return jax.vmap(function)(*rows)


def predict(
    params: Any, rows: Array, data: Data, settings: Settings, rendering: Rendering
) -> Array:
    """Answers (len(rows), 5) of one trained network for rows of the sample."""

    def block(rows):
        return answer(params, batches.images_of(data, rows, rendering), settings)

    outputs = jax.lax.map(block, _blocks(rows))
    return outputs.reshape(-1, outputs.shape[-1])[: rows.shape[0]]


def _blocks(rows: Array) -> Array:
    """Rows (n,) as (blocks, BLOCK), the last one repeated as often as is needed."""
    return jnp.pad(rows, (0, -rows.shape[0] % BLOCK), mode="edge").reshape(-1, BLOCK)


def answer(
    params: Any, images: Array, settings: Settings, key: Array | None = None
) -> Array:
    """Outputs (B, 5) of one network for images (B, n, n, band) in counts.

    All surveys' counts are brought to one zero point.  Drops neurons only where a `key`
    is given.
    """
    if settings.zero_point != NETWORK_ZERO_POINT:
        images = images * 10 ** (0.4 * (NETWORK_ZERO_POINT - settings.zero_point))
    images = scaling.scaled(images, settings.scaling)
    return network.apply(params, images, settings.architecture, key=key)
