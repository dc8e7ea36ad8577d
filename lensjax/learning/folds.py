"""Who trains on which rows of a sample, and who is validated on which."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Folds(NamedTuple):
    """Which rows of the sample each fold trains on and is validated on; (F, ...).

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
    """Rows to train on, rows to validate on, and lenses, if these lenses are kept."""
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
