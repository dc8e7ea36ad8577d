"""Training: mocks rendered inside the step, cross-validation folds side by side.

A fold is a row of every array here.  Rows never meet: `vmap` runs them in one program
and `shard_map` spreads them over devices, so a fold's curve does not depend on its
company. Every random number comes from the run's key by way of fold and epoch; a
resumed run draws what an uninterrupted one would have.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lensjax import batches, network
from lensjax.batches import Data, Folds
from lensjax.endless import Endless, draw
from lensjax.network import Architecture
from lensjax.system import Rendering, System

TARGETS = ("x", "y", "ex", "ey", "theta_E")
"""Outputs of the network, in the paper's order: x, y, theta_E in arcsec."""

BLOCK = 64  # images at a time where nothing is learnt
NETWORK_ZERO_POINT = 27.0  # AB magnitude of one count as networks see it


class Settings(NamedTuple):
    """What a training run does, beyond its data; static under jit."""

    learning_rate: float = 0.001
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_theta_E: float = 1.0  # of theta_E in the loss, before normalisation
    scaling: str = "none"  # of the images, see `scaled`
    zero_point: float = NETWORK_ZERO_POINT  # of the images
    seed: int = 0
    architecture: Architecture = Architecture()


class State(NamedTuple):
    """All that changes while training; each leaf has the folds in front."""

    params: Any
    optimizer: optax.OptState
    loss_sum: Array  # (F,) of this epoch's steps so far, over all of its steps
    validation_sum: Array  # (F,) of the held-out rows judged so far, over all of them
    empty: Array  # (F,) slots of this epoch's batches that found no system
    best_params: Any  # at the epoch with the least validation loss
    best_loss: Array
    best_epoch: Array  # counted from 1; 0 before the first


def targets(systems: System) -> Array:
    """What the network shall answer: (..., 5) in the order of `TARGETS`."""
    s = systems.sie
    return jnp.stack([s.x, s.y, s.ex, s.ey, s.theta_E], -1)


def target_weights(weight_theta_E: float) -> np.ndarray:
    """The paper's w_l: weight_theta_E for theta_E, 1 for the others; they sum to 5."""
    weights = np.array([1, 1, 1, 1, weight_theta_E], np.float32)
    return weights * len(weights) / weights.sum()


def loss(outputs: Array, truth: Array, weight_theta_E: float) -> Array:
    """Weighted mean squared error of each system (Schuldt et al. 2021, eq. 6).

    (B, 5), (B, 5) -> (B,): average it over the batch for the paper's L.
    """
    weights = jnp.asarray(target_weights(weight_theta_E), outputs.dtype)
    return ((outputs - truth) ** 2 * weights[None, :]).mean(-1)


def scaled(images: Array, scaling: str) -> Array:
    """Images (B, n, n, band) as the network sees them.

    none: counts at the survey's zero point, as the paper's final networks.
    asinh: arcsinh(counts), linear below one count, logarithmic in the lens's core.
    standardize: each image less its mean, over its standard deviation (eq. 7-9).
    """
    if scaling == "none":
        return images
    if scaling == "asinh":
        return jnp.arcsinh(images)
    if scaling == "standardize":
        mean = images.mean((1, 2, 3), keepdims=True)
        return (images - mean) / images.std((1, 2, 3), keepdims=True, ddof=1)
    raise ValueError(f"scaling is none, asinh or standardize, not {scaling!r}")


def optimizer(settings: Settings) -> optax.GradientTransformation:
    """SGD as PyTorch's: the weight decay enters the momentum."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(settings.learning_rate, momentum=settings.momentum),
    )


def start(settings: Settings, folds: Array) -> State:
    """Untrained networks, one for each number of a fold (F,), from its own key."""

    def one(number):
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        params = network.init(jax.random.fold_in(key, 0), settings.architecture)
        return State(
            params=params,
            optimizer=optimizer(settings).init(params),
            loss_sum=jnp.zeros(()),
            validation_sum=jnp.zeros(()),
            empty=jnp.zeros((), jnp.int32),
            best_params=jax.tree.map(jnp.copy, params),  # donated apart
            # a weak type would compile twice
            best_loss=jnp.array(jnp.inf, jnp.float32),
            best_epoch=jnp.array(0, jnp.int32),
        )

    return jax.vmap(one)(folds)


def order(settings: Settings, fold: Folds, epoch: Array) -> Array:
    """Rows (T,) of one fold in the order in which an epoch trains on them."""
    key = jax.random.fold_in(_key(settings, fold, epoch), 0)
    return batches.shuffled(key, fold.train, fold.n_train)


def _key(settings: Settings, fold: Folds, epoch: Array) -> Array:
    """Of all that is random in one epoch of one fold."""
    key = jax.random.fold_in(jax.random.key(settings.seed), fold.number)
    return jax.random.fold_in(key, 1 + epoch)  # 0 drew the untrained network


class Program(NamedTuple):
    """The compiled pieces of a training run."""

    run: Callable  # (state, folds, data, epoch, first, last) -> state: some steps
    validate: Callable  # (state, folds, data, first, last) -> state: some blocks
    finish: Callable  # (state, folds, epoch) -> state, (train, validation) losses
    place: Callable  # (state or folds) -> the same, on its devices
    steps: int  # an epoch
    blocks: int  # of held-out rows


def compile(
    settings: Settings,
    steps: int,
    folds: Folds,
    rendering: Rendering,
    devices: list | None = None,
    endless: Endless | None = None,
) -> Program:
    """Programs that train folds at once, spread evenly over the devices.

    With `endless`, training systems are drawn within the step; else they are the
    sample's rows.
    """
    devices = devices or jax.local_devices()
    n_folds = len(folds.number)
    used = max(d for d in range(1, len(devices) + 1) if n_folds % d == 0)
    mesh = jax.make_mesh(
        (used,), ("fold",), devices=devices[:used], axis_types=(_AUTO,)
    )
    spread, everywhere = P("fold"), P()
    blocks = -(-folds.validation.shape[1] // BLOCK)

    def per_device(function, *specs):
        """Fold rows over devices and, on each, side by side by vmap."""

        def rows(state, folds, *others):
            return jax.vmap(lambda s, f: function(s, f, *others))(state, folds)

        mapped = jax.shard_map(
            rows,
            mesh=mesh,
            in_specs=(spread, spread, *specs),
            out_specs=spread,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)

    def sampled(rows, number, key, folds, data):
        start = number * settings.batch_size
        rows = jax.lax.dynamic_slice(rows, (start,), (settings.batch_size,))
        systems = batches.take(data.systems, rows)
        images = batches.images_of(data, rows, rendering)
        return systems, images, jnp.ones(settings.batch_size, bool)

    def fresh(rows, number, key, folds, data):
        among = (folds.lenses, folds.n_lenses)
        systems, found = draw(key, settings.batch_size, among, data, rendering, endless)
        images = batches.render(systems, data.catalogue, rendering)
        # what is not counted must be finite all the same
        return systems, jnp.where(found[:, None, None, None], images, 0), found

    def run(state, folds, data, epoch, first, last):
        key = _key(settings, folds, epoch)
        rows = order(settings, folds, epoch)

        def step(number, state):
            own = jax.random.fold_in(jax.random.fold_in(key, 2), number)
            batch = fresh if endless else sampled
            systems, images, counts = batch(rows, number, own, folds, data)
            dropout = jax.random.fold_in(jax.random.fold_in(key, 1), number)
            n = jnp.maximum(counts.sum(), 1).astype(images.dtype)

            def mean_loss(params):
                outputs = answer(params, images, settings, key=dropout)
                each = loss(outputs, targets(systems), settings.weight_theta_E)
                return jnp.where(counts, each, 0).sum() / n

            value, gradient = jax.value_and_grad(mean_loss)(state.params)
            update, opt_state = optimizer(settings).update(
                gradient, state.optimizer, state.params
            )
            return state._replace(
                params=optax.apply_updates(state.params, update),
                optimizer=opt_state,
                loss_sum=state.loss_sum + value / steps,
                empty=state.empty + (~counts).sum(dtype=state.empty.dtype),
            )

        return jax.lax.fori_loop(first, last, step, state)

    def validate(state, folds, data, first, last):
        rows = _blocks(folds.validation)
        counts = jnp.arange(rows.size).reshape(rows.shape) < folds.n_validation
        n = folds.n_validation.astype(state.validation_sum.dtype)

        def block(number, total):
            images = batches.images_of(data, rows[number], rendering)
            outputs = answer(state.params, images, settings)
            truth = targets(batches.take(data.systems, rows[number]))
            each = loss(outputs, truth, settings.weight_theta_E)
            return total + jnp.where(counts[number], each, 0).sum() / n

        total = jax.lax.fori_loop(first, last, block, state.validation_sum)
        return state._replace(validation_sum=total)

    def finish(state, folds, epoch):
        better = state.validation_sum < state.best_loss

        def best(new, old):
            return jnp.where(better, new, old)

        losses = state.loss_sum, state.validation_sum
        return state._replace(
            loss_sum=jnp.zeros_like(state.loss_sum),
            validation_sum=jnp.zeros_like(state.validation_sum),
            empty=jnp.zeros_like(state.empty),
            best_params=jax.tree.map(best, state.params, state.best_params),
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
    images = scaled(images, settings.scaling)
    return network.apply(params, images, settings.architecture, key=key)
