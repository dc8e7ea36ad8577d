"""What a training step looks at: rows of a sample, and their images.

Images, or what an estimator sees of them, are kept in memory, or rendered when they are
wanted; in online training they are of systems drawn within the step.
"""

import math
from collections.abc import Callable
from functools import partial
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

    images, parts = _each(one, systems)
    return Scene(estimator.see(images), parts)


def render(systems: System, catalogue: Catalogue, rendering: Rendering) -> Array:
    """Images (N, n, n, band) of systems (N,)."""

    def one(row):
        return system.render(row, catalogue, rendering)

    return _each(one, systems)


def _each(one: Callable, systems: System) -> Any:
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
    return _whole(render, systems, catalogue, rendering, progress, block)


def keep_all(
    estimator: Estimator,
    systems: System,
    catalogue: Catalogue,
    rendering: Rendering,
    progress: Callable[[int], None] = lambda done: None,
    block: int = 256,
) -> Scene:
    """What an estimator looks at of a whole sample (N, ...), to keep in memory."""
    made = partial(scenes, estimator=estimator)
    return _whole(made, systems, catalogue, rendering, progress, block)


def _whole(function, systems, catalogue, rendering, progress, block):
    """What a function makes of all systems, some at a time, each core with its own."""
    some = jax.jit(function, static_argnums=2, compiler_options=batching.one_thread())
    n, one_row = len(systems.number), take(systems, slice(0, 1))
    shapes = jax.eval_shape(lambda s, c: function(s, c, rendering), one_row, catalogue)
    whole = jax.tree.map(lambda a: _aligned((n, *a.shape[1:]), a.dtype), shapes)

    def one(first):
        # the last block starts early rather than be of another shape
        first = max(min(first, n - block), 0)
        rows = take(systems, slice(first, first + block))
        made = some(rows, catalogue, rendering)
        for into, part in zip(*map(jax.tree.leaves, (whole, made)), strict=True):
            into[first : first + block] = part
        return min(first + block, n)

    for done in batching.ahead(one, range(0, n, block)):
        progress(done)
    return jax.device_put(whole)


def _aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Memory that JAX on a CPU takes as its own where it would else copy."""
    size, edge = np.dtype(dtype).itemsize * math.prod(shape), 64
    whole = np.empty(size + edge, np.uint8)
    start = -whole.ctypes.data % edge
    return whole[start : start + size].view(dtype).reshape(shape)
