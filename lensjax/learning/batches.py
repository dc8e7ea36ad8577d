"""What a training step looks at: rows of a sample by fold, and their images.

Images are kept in memory, or rendered when they are wanted; in endless training they
are of systems drawn within the step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.catalogue import Catalogue
from lensjax.mocks import batching, system
from lensjax.mocks.proposals import Pool
from lensjax.mocks.system import Rendering, System


class Folds(NamedTuple):
    """Which rows of the sample each fold trains on and is judged by; (F, ...).

    One more number than there are folds stands for the final network: it trains on all
    of them, and what is held out is the test set.
    """

    number: Array  # (F,) 0 to 4, or 5: the final network
    train: Array  # (F, T) rows of the sample, padded
    n_train: Array  # (F,) how many of them count
    validation: Array  # (F, V)
    n_validation: Array
    lenses: Array  # (F, G) rows of the catalogue that a fold may train on
    n_lenses: Array


class Data(NamedTuple):
    """What a step renders or reads; the same for all folds."""

    systems: System  # (N,)
    catalogue: Catalogue | None  # None where all images are kept
    images: Array | None = None  # (N, n, n, band) where they are kept
    pool: Pool | None = None  # of endless training
    thinning: Array | None = None  # (bins of theta_E,) share to admit in endless ones


def split_rows(part: np.ndarray, lens_index: np.ndarray, folds: list[int]) -> Folds:
    """Rows of a sample by fold, from the part (see `catalogue.split`) of each lens.

    All five folds decide the padded shapes, so that one alone draws the same numbers as
    in company.  ValueError where a fold has no systems.
    """
    part = np.asarray(part)
    every = range(int(part.max()) + 1)
    rows = [_sides(part, lens_index, part == k) for k in every]
    return _padded(rows, folds, [f"fold {k}" for k in every])


def final_rows(part: np.ndarray, lens_index: np.ndarray) -> Folds:
    """Rows of the final network: it trains on all folds, the test set is held out."""
    part = np.asarray(part)
    rows = _sides(part, lens_index, np.zeros(len(part), bool))
    rows["validation"] = np.flatnonzero((part == -1)[np.asarray(lens_index)])
    number = int(part.max()) + 1
    one = _padded([rows], [0], ["the test set"])
    return one._replace(number=jnp.asarray([number], jnp.int32))


def _sides(part, lens_index, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """Rows to train on and to be judged by, and lenses, if these lenses are kept."""
    lens_index = np.asarray(lens_index)
    trains = (part >= 0) & ~held_out
    return {
        "training": np.flatnonzero(trains[lens_index]),
        "validation": np.flatnonzero(held_out[lens_index]),
        "lenses": np.flatnonzero(trains),
    }


def _padded(rows: list[dict], folds: list[int], names: list[str]) -> Folds:
    columns = []
    for kind in ("training", "validation", "lenses"):
        lengths = [len(r[kind]) for r in rows]
        if not all(lengths):
            name = names[lengths.index(0)]
            raise ValueError(f"{name} has no {kind} systems: draw a larger sample")
        table = [np.resize(r[kind], max(lengths)) for r in rows]
        for k, n in enumerate(lengths):
            table[k][n:] = table[k][0]
        columns.append(jnp.asarray(np.stack(table)[folds], jnp.int32))
        columns.append(jnp.asarray([lengths[k] for k in folds], jnp.int32))
    return Folds(jnp.asarray(folds, jnp.int32), *columns)


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


def shuffled(key: Array, rows: Array, n: Array) -> Array:
    """The first n of `rows` in random order, the padding behind them."""
    place = jax.random.uniform(key, rows.shape)
    place = jnp.where(jnp.arange(rows.shape[0]) < n, place, jnp.inf)
    return rows[jnp.argsort(place)]


def take(systems: System, rows) -> System:
    """Some rows of a sample."""
    return jax.tree.map(lambda a: a[rows], systems)


def images_of(data: Data, rows: Array, rendering: Rendering) -> Array:
    """Images (len(rows), n, n, band) of sample rows: kept, or rendered now."""
    if data.images is not None:
        return data.images[rows]
    return render(take(data.systems, rows), data.catalogue, rendering)


def render(systems: System, catalogue: Catalogue, rendering: Rendering) -> Array:
    """Images (N, n, n, band) of systems (N,)."""

    def one(row):
        return system.render(row, catalogue, rendering)

    # a CPU is faster one mock at a time, within its cache; an accelerator all at once
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, systems)
    return jax.vmap(one)(systems)


def render_all(
    systems: System,
    catalogue: Catalogue,
    rendering: Rendering,
    progress: Callable[[int], None] = lambda done: None,
    block: int = 256,
) -> Array:
    """Images (N, n, n, band) of a whole sample, to keep in memory."""
    some = jax.jit(render, static_argnums=2)
    n, size = len(systems.number), rendering.survey.image_size
    images = _aligned((n, size, size, len(rendering.survey.bands)))

    def one(first):
        # the last block starts early rather than be of another shape
        first = max(min(first, n - block), 0)
        rows = take(systems, slice(first, first + block))
        images[first : first + block] = some(rows, catalogue, rendering)
        return min(first + block, n)

    for done in batching.ahead(one, range(0, n, block)):
        progress(done)
    return jax.device_put(images)


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Memory (float32) that JAX on a CPU takes as its own where it would else copy."""
    size, edge = 4 * math.prod(shape), 64
    whole = np.empty(size + edge, np.uint8)
    start = -whole.ctypes.data % edge
    return whole[start : start + size].view(np.float32).reshape(shape)
