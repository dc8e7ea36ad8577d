"""What a training step looks at: rows of a sample, and their images.

Images are kept in memory, or rendered when they are wanted; in online training they are
of systems drawn within the step.
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

BLOCK = 64  # images at a time where nothing is learnt


class Data(NamedTuple):
    """What a step renders or reads; the same for all folds."""

    systems: System  # (N,)
    catalogue: Catalogue | None  # None where all images are kept
    images: Array | None = None  # (N, n, n, band) where they are kept
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
    some = jax.jit(render, static_argnums=2, compiler_options=batching.one_thread())
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
