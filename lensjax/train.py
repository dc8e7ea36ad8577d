"""Training: mocks rendered inside the step, cross-validation folds side by side.

A fold is a row of every array here.  Rows never meet: `vmap` runs them in one program
and `shard_map` spreads them over devices, so a fold's curve does not depend on its
company. Every random number comes from the run's key by way of fold and epoch; a
resumed run draws what an uninterrupted one would have.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lensjax import network, system
from lensjax.catalogue import Catalogue
from lensjax.network import Architecture
from lensjax.survey import Survey
from lensjax.system import System

TARGETS = ("x", "y", "ex", "ey", "theta_E")
"""Outputs of the network, in the paper's order: x, y, theta_E in arcsec."""


class Settings(NamedTuple):
    """What a training run does, beyond its data; static under jit."""

    learning_rate: float = 0.001
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_theta_E: float = 1.0  # of theta_E in the loss, before normalisation
    scaling: str = "none"  # of the images, see `scaled`
    seed: int = 0
    architecture: Architecture = Architecture()


class Folds(NamedTuple):
    """Which rows of the sample each fold trains on and is judged by; (F, ...)."""

    number: Array  # (F,) 0 to 4
    train: Array  # (F, T) rows of the sample, padded
    n_train: Array  # (F,) how many of them count
    validation: Array  # (F, V)
    n_validation: Array


class Data(NamedTuple):
    """What a step renders or reads; the same for all folds."""

    systems: System  # (N,)
    catalogue: Catalogue | None  # None where all images are kept
    images: Array | None  # (N, n, n, band) where they are kept, else None


class State(NamedTuple):
    """All that changes while training; each leaf has the folds in front."""

    params: Any
    optimizer: optax.OptState
    loss_sum: Array  # (F,) over the steps of this epoch
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


def split_rows(part: np.ndarray, lens_index: np.ndarray, folds: list[int]) -> Folds:
    """Rows of a sample by fold, from the part (see `catalogue.split`) of each lens.

    All five folds decide the padded shapes, so that one alone draws the same numbers as
    in company.
    """
    part_of_row = np.asarray(part)[np.asarray(lens_index)]
    every = range(int(part.max()) + 1)
    train = [np.flatnonzero((part_of_row >= 0) & (part_of_row != k)) for k in every]
    held_out = [np.flatnonzero(part_of_row == k) for k in every]
    for name, rows in (("validation", held_out), ("training", train)):
        if not all(len(r) for r in rows):
            k = [len(r) for r in rows].index(0)
            raise ValueError(f"fold {k} has no {name} systems: draw a larger sample")

    def padded(rows):
        longest = max(len(r) for r in rows)
        table = [np.concatenate([r, np.full(longest - len(r), r[0])]) for r in rows]
        return jnp.asarray(np.stack(table)[folds], jnp.int32)

    def lengths(rows):
        return jnp.asarray([len(rows[k]) for k in folds], jnp.int32)

    return Folds(
        jnp.asarray(folds, jnp.int32),
        padded(train),
        lengths(train),
        padded(held_out),
        lengths(held_out),
    )


def steps_per_epoch(part: np.ndarray, lens_index: np.ndarray, batch_size: int) -> int:
    """Batches an epoch: as many as the smallest of all folds fills."""
    part_of_row = np.asarray(part)[np.asarray(lens_index)]
    every = range(int(part.max()) + 1)
    fewest = min(((part_of_row >= 0) & (part_of_row != k)).sum() for k in every)
    if fewest < batch_size:
        raise ValueError(
            f"batch_size {batch_size} is more than the {fewest} training systems of "
            "the smallest fold: lower it or draw a larger sample"
        )
    return int(fewest) // batch_size


def optimizer(settings: Settings) -> optax.GradientTransformation:
    """SGD as PyTorch's: the weight decay enters the momentum."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(settings.learning_rate, momentum=settings.momentum),
    )


def start(settings: Settings, folds: Folds) -> State:
    """Untrained networks, one a fold, each from its own key."""

    def one(number):
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        params = network.init(jax.random.fold_in(key, 0), settings.architecture)
        return State(
            params=params,
            optimizer=optimizer(settings).init(params),
            loss_sum=jnp.zeros(()),
            best_params=jax.tree.map(jnp.copy, params),  # donated apart
            # a weak type would compile twice
            best_loss=jnp.array(jnp.inf, jnp.float32),
            best_epoch=jnp.array(0, jnp.int32),
        )

    return jax.vmap(one)(folds.number)


class Program(NamedTuple):
    """The compiled pieces of a training run."""

    run: Callable  # (state, folds, data, epoch, first, last) -> state: some steps
    finish: Callable  # (state, folds, data, epoch, steps) -> state, (train, val) losses
    place: Callable  # (state or folds) -> the same, on its devices
    steps: int  # an epoch


def compile(
    settings: Settings,
    steps: int,
    n_folds: int,
    survey: Survey,
    source_pixel_scale: float,
    devices: list | None = None,
) -> Program:
    """Programs that train `n_folds` folds at once, spread evenly over the devices."""
    devices = devices or jax.local_devices()
    used = max(d for d in range(1, len(devices) + 1) if n_folds % d == 0)
    mesh = jax.make_mesh(
        (used,), ("fold",), devices=devices[:used], axis_types=(_AUTO,)
    )
    spread, everywhere = P("fold"), P()
    images_at = partial(images_of, survey=survey, pixel_scale=source_pixel_scale)
    apply = partial(answer, settings=settings)

    def per_device(function, outputs):
        """Fold rows over devices and, on each, side by side by vmap."""

        def rows(state, folds, data, *scalars):
            return jax.vmap(lambda s, f: function(s, f, data, *scalars))(state, folds)

        scalars = (everywhere,) * 3 if function is run else (everywhere,) * 2
        specs = (spread, spread, everywhere, *scalars)
        mapped = jax.shard_map(
            rows, mesh=mesh, in_specs=specs, out_specs=outputs, check_vma=False
        )
        return jax.jit(mapped, donate_argnums=0)

    def run(state, folds, data, epoch, first, last):
        key = jax.random.fold_in(jax.random.key(settings.seed), folds.number)
        key = jax.random.fold_in(key, 1 + epoch)  # 0 drew the untrained network
        order = _shuffled(jax.random.fold_in(key, 0), folds.train, folds.n_train)

        def step(number, state):
            start = number * settings.batch_size
            rows = jax.lax.dynamic_slice(order, (start,), (settings.batch_size,))
            images, truth = images_at(data, rows), targets(_take(data.systems, rows))
            dropout = jax.random.fold_in(jax.random.fold_in(key, 1), number)

            def mean_loss(params):
                outputs = apply(params, images, key=dropout)
                return loss(outputs, truth, settings.weight_theta_E).mean()

            value, gradient = jax.value_and_grad(mean_loss)(state.params)
            update, opt_state = optimizer(settings).update(
                gradient, state.optimizer, state.params
            )
            return state._replace(
                params=optax.apply_updates(state.params, update),
                optimizer=opt_state,
                loss_sum=state.loss_sum + value,
            )

        return jax.lax.fori_loop(first, last, step, state)

    def finish(state, folds, data, epoch, steps):
        outputs = _predict(state.params, folds.validation, data, images_at, apply)
        truth = targets(_take(data.systems, folds.validation))
        each = loss(outputs, truth, settings.weight_theta_E)
        counts = jnp.arange(each.shape[0]) < folds.n_validation
        n = folds.n_validation.astype(each.dtype)
        validation = jnp.where(counts, each, 0).sum() / n
        better = validation < state.best_loss

        def best(new, old):
            return jnp.where(better, new, old)

        train = state.loss_sum / steps
        state = state._replace(
            loss_sum=jnp.zeros_like(state.loss_sum),
            best_params=jax.tree.map(best, state.params, state.best_params),
            best_loss=best(validation, state.best_loss),
            best_epoch=best(epoch + 1, state.best_epoch),
        )
        return state, (train, validation)

    return Program(
        run=per_device(run, spread),
        finish=per_device(finish, spread),
        place=lambda tree: jax.device_put(tree, NamedSharding(mesh, spread)),
        steps=steps,
    )


_AUTO = jax.sharding.AxisType.Auto


def predict(
    params: Any,
    rows: Array,
    data: Data,
    settings: Settings,
    survey: Survey,
    source_pixel_scale: float,
) -> Array:
    """Answers (len(rows), 5) of one trained network for rows of the sample."""
    images_at = partial(images_of, survey=survey, pixel_scale=source_pixel_scale)
    apply = partial(answer, settings=settings)
    return _predict(params, rows, data, images_at, apply)


def render_all(
    systems: System,
    catalogue: Catalogue,
    survey: Survey,
    source_pixel_scale: float,
    progress: Callable[[int], None] = lambda done: None,
    block: int = 256,
) -> Array:
    """Images (N, n, n, band) of a whole sample, to keep in memory."""

    @jax.jit
    def render(systems, catalogue):
        return _render(systems, catalogue, survey, source_pixel_scale)

    n = len(systems.number)
    size = survey.image_size
    images = np.empty((n, size, size, len(survey.bands)), np.float32)
    for first in range(0, n, block):
        # the last block starts early rather than be of another shape
        first = max(min(first, n - block), 0)
        rows = _take(systems, slice(first, first + block))
        images[first : first + block] = render(rows, catalogue)
        progress(min(first + block, n))
    return jnp.asarray(images)


def _render(systems, catalogue, survey, pixel_scale):
    def one(row):
        return system.render(row, catalogue, survey, pixel_scale)

    # a CPU is faster one mock at a time, within its cache; an accelerator all at once
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, systems)
    return jax.vmap(one)(systems)


def images_of(data: Data, rows: Array, survey: Survey, pixel_scale: float) -> Array:
    """Images (len(rows), n, n, band) of sample rows: kept, or rendered now."""
    if data.images is not None:
        return data.images[rows]
    return _render(_take(data.systems, rows), data.catalogue, survey, pixel_scale)


def answer(
    params: Any, images: Array, settings: Settings, key: Array | None = None
) -> Array:
    """Outputs (B, 5) of one network for images (B, n, n, band) in counts.

    Drops neurons only where a `key` is given.
    """
    images = scaled(images, settings.scaling)
    return network.apply(params, images, settings.architecture, key=key)


def _predict(params, rows, data, images_at, apply, batch=64):
    n = rows.shape[0]
    padded = jnp.pad(rows, (0, -n % batch), mode="edge").reshape(-1, batch)
    outputs = jax.lax.map(lambda r: apply(params, images_at(data, r)), padded)
    return outputs.reshape(-1, outputs.shape[-1])[:n]


def _shuffled(key: Array, rows: Array, n: Array) -> Array:
    """The first n of `rows` in random order, the padding behind them."""
    place = jax.random.uniform(key, rows.shape)
    place = jnp.where(jnp.arange(rows.shape[0]) < n, place, jnp.inf)
    return rows[jnp.argsort(place)]


def _take(systems: System, rows) -> System:
    return jax.tree.map(lambda a: a[rows], systems)
