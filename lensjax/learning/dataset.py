"""What a training step looks at: rows of a sample, and their images.

Images, or what an estimator sees of them, are kept in memory, or rendered when they are
wanted; in online training they are of systems drawn within the step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.catalogue import Catalogue
from lensjax.learning.estimator import Estimator, Scene
from lensjax.mocks import batching, system
from lensjax.mocks.proposals import Pool
from lensjax.mocks.system import Rendering, System

BLOCK = 64  # images at a time where nothing is learnt


class Data(NamedTuple):
    """What a step renders or reads; the same for all folds."""

    systems: System  # (N,)
    catalogue: Catalogue | None  # None where all images are kept
    kept: Scene | None = None  # (N, ...) where what is looked at is kept
    pool: Pool | None = None  # of online training
    thinning: Array | None = (
        None  # (bins of theta_E,) share to admit in online training
    )


def take(systems: System, rows) -> System:
    """Some rows of a sample."""
    return jax.tree.map(lambda a: a[rows], systems)


def blocks(rows: Array) -> Array:
    """Rows (n,) as (blocks, BLOCK), the last one repeated as often as is needed."""
    return jnp.pad(rows, (0, -rows.shape[0] % BLOCK), mode="edge").reshape(-1, BLOCK)


def scenes_of(
    data: Data, rows: Array, rendering: Rendering, estimator: Estimator
) -> Scene:
    """What an estimator looks at (len(rows), ...) of sample rows: kept, or made now."""
    if data.kept is not None:
        return jax.tree.map(lambda a: a[rows], data.kept)
    return scenes(take(data.systems, rows), data.catalogue, rendering, estimator)


def scenes(
    systems: System, catalogue: Catalogue, rendering: Rendering, estimator: Estimator
) -> Scene:
    """What an estimator looks at (N, ...) of systems (N,)."""
    if not estimator.maps or catalogue.lenses.parts is None:
        return Scene(estimator.see(render(systems, catalogue, rendering)))

    def one(row):
        image, arcs = system.layers(row, catalogue, rendering)
        return image + arcs, system.shown(row, arcs, catalogue, rendering)

    images, parts = batching.each(one, systems)
    return Scene(estimator.see(images), parts)


def render(systems: System, catalogue: Catalogue, rendering: Rendering) -> Array:
    """Images (N, n, n, band) of systems (N,)."""

    def one(row):
        return system.render(row, catalogue, rendering)

    return batching.each(one, systems)


def render_all(
    systems: System,
    catalogue: Catalogue,
    rendering: Rendering,
    progress: Callable[[int], None] = lambda done: None,
    block: int = 256,
    make: Callable = render,
) -> Any:
    """Images (N, n, n, band) of a whole sample, to keep in memory.

    make: what is made instead of images, as `scenes` with an estimator.
    """
    some = jax.jit(make, static_argnums=2, compiler_options=batching.one_thread())
    made = batching.in_blocks(
        lambda rows: some(take(systems, rows), catalogue, rendering),
        len(systems.number),
        block,
        _aligned,
        progress,
    )
    return jax.device_put(made)


def _aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Memory that JAX on a CPU takes as its own where it would else copy."""
    size, edge = np.dtype(dtype).itemsize * math.prod(shape), 64
    whole = np.empty(size + edge, np.uint8)
    start = -whole.ctypes.data % edge
    return whole[start : start + size].view(dtype).reshape(shape)
