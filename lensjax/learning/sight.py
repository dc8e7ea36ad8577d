"""How a residual network sees an image: in units of noise, and with the lens taken off.

A network that sees an image alone must learn to look past the lens galaxy.  Here its
light is fitted by smooth functions of the radius, with two- and fourfold symmetry, and
what remains in units of the noise stands beside the image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

WIDTHS = (1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0)  # of the functions [pixel]
ANGLES = (0, 2, 4, 1)  # waves around the centre; the last one is for an offset
BIN = 2  # pixels on a side that are fitted together
REACH = 8  # pixels from the middle within which a lens's centre is looked for
CORNER = 8  # pixels on a side, where the noise is measured
FLOOR = 0.05  # of the light that a smooth model leaves behind
OUTLIER = 2.0  # sigma, from which on a pixel counts less
COMPRESSED = 3.0  # sigma, from which on a residual counts as its logarithm


def channels(images: Array) -> tuple[Array, Array]:
    """What a network sees of images (B, n, n, band), and the noise of their skies.

    Returns (B, n, n, 2 band), the image and what a smooth lens leaves of it, in units
    of the noise, large values as their logarithm; and (B, band), the noise [counts].
    """

    def one(image):
        sigma = noise(image)
        scaled = image / sigma[None, None]
        rest = scaled - smooth(scaled)
        rest = rest / jnp.sqrt(1 + (FLOOR * jnp.maximum(scaled, 0)) ** 2)
        seen = [jnp.arcsinh(scaled), jnp.arcsinh(rest / COMPRESSED)]
        return jnp.concatenate(seen, -1), sigma

    # one image at a time within a CPU's cache
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, images)
    return jax.vmap(one)(images)


def noise(image: Array) -> Array:
    """Noise (band,) of the sky: differences of neighbouring pixels in the corners.

    The median of four corners; a coadd's noise is a little more, its pixels being
    correlated.
    """
    k = CORNER
    corners = [image[:k, :k], image[:k, -k:], image[-k:, :k], image[-k:, -k:]]
    squares = [jnp.diff(c, axis=a) ** 2 for c in corners for a in (0, 1)]
    means = jnp.stack([s.mean((0, 1)) for s in squares])
    each = jnp.sort((means[0::2] + means[1::2]) / 4, 0)
    return jnp.sqrt(jnp.maximum((each[1] + each[2]) / 2, 1e-12))


def smooth(image: Array) -> Array:
    """The lens's light in an image (n, n, band) [noise], as smooth functions have it.

    Least squares about the brightest place near the middle, twice: what the first fit
    leaves far above the noise counts less in the second.
    """
    n = image.shape[0]
    functions, coarse = _functions(n)
    row, column = _brightest(image.mean(-1))
    k = functions.shape[0]
    start = (jnp.zeros_like(row), REACH - row, REACH - column)
    fine = jax.lax.dynamic_slice(jnp.asarray(functions, image.dtype), start, (k, n, n))
    start = (jnp.zeros_like(row), REACH - row, REACH - column)
    binned = jax.lax.dynamic_slice(jnp.asarray(coarse, image.dtype), start, (k, n, n))
    basis = binned[:, ::BIN, ::BIN].reshape(k, -1)
    m = n // BIN
    data = image.reshape(m, BIN, m, BIN, -1).mean((1, 3)).reshape(m * m, -1)
    bright = jnp.maximum(data.mean(-1), 0)
    certain = 1 / (1 + (2 * FLOOR * bright) ** 2)

    def fit(weight):
        weighted = basis * weight[None]
        normal = weighted @ basis.T
        ridge = 1e-4 * jnp.diagonal(normal) + 1e-6
        factor = jax.scipy.linalg.cho_factor(normal + jnp.diag(ridge), lower=True)
        return jax.scipy.linalg.cho_solve(factor, weighted @ data)

    rest = data - basis.T @ fit(certain)
    pull = (rest**2).mean(-1) * certain * BIN**2
    amplitudes = fit(certain / (1 + pull / OUTLIER**2))
    return jnp.tensordot(fine, amplitudes, [[0], [0]])


def _brightest(image: Array) -> tuple[Array, Array]:
    """Row and column, from the middle, of the brightest place near it [pixel]."""
    n, reach = image.shape[0], REACH
    middle = image[n // 2 - reach - 1 : n // 2 + reach + 1,
                   n // 2 - reach - 1 : n // 2 + reach + 1]  # fmt: skip
    total = sum(
        middle[i : i + 2 * reach, j : j + 2 * reach] for i in range(3) for j in range(3)
    )
    at = jnp.argmax(total)
    return at // (2 * reach) - reach, at % (2 * reach) - reach


@functools.cache
def _functions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Functions (K, n + 2 reach, n + 2 reach) about the middle, and their bins' means.

    The second at a pixel is the mean of the bin that begins there.
    """
    side = n + 2 * REACH + BIN
    at = np.arange(side) - (n // 2 + REACH)
    y, x = np.meshgrid(at, at, indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    made = [np.ones_like(radius)]
    for width in WIDTHS:
        shape = np.exp(-((radius / width) ** 2) / 2)
        for waves in ANGLES:
            # smooth at the centre, where an angle has no meaning
            rise = np.minimum(radius / width, 3) ** min(waves, 2)
            made.append(shape * rise * np.cos(waves * angle))
            if waves:
                made.append(shape * rise * np.sin(waves * angle))
    functions = np.stack(made)
    functions /= np.sqrt((functions**2).sum((1, 2), keepdims=True))
    coarse = sum(
        np.roll(functions, (-i, -j), (1, 2)) for i in range(BIN) for j in range(BIN)
    )
    keep = slice(0, n + 2 * REACH)
    return (
        functions[:, keep, keep].astype(np.float32),
        (coarse[:, keep, keep] / BIN**2).astype(np.float32),
    )
