"""What a residual network sees of an image: noise as its unit, the lens taken off.

A network that sees an image alone must learn to look past the lens galaxy.  Here its
light is fitted by smooth functions of the elliptical radius, and what remains in units
of the noise stands beside the image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import photometry
from lensjax.learning import matched_filter
from lensjax.mocks import batching

WIDTHS = (1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0)  # of the functions [pixel]
TWISTED = (2.0, 6.0)  # widths of those with two waves around the centre
SHIFTED = (1.5,)  # and with one: a centre that is a little off
THINNEST = 0.7  # |e|; of thinner galaxies the ends are left
BIN = 2  # pixels on a side that are fitted together
CORNER = 8  # pixels on a side, where the noise is measured
FLOOR = 0.05  # of the light that a smooth model leaves behind
FITS = 4  # what is far above the last one counts less in the next
OUTLIER = 1.0  # sigma, from which on a pixel counts less
LOWER = 4.0  # times as far below: arcs do not take light away
CORE = 2.5  # radius of the core, whose colour is the lens's [pixel]
LEAST_COLOUR = 0.05  # of two bands' ratio, and of a core's light [noise]
STRANGE = 5.0  # sigma: templates do not see what is brighter, which is no arc
COMPRESSED = 3.0  # sigma, from which on a residual counts as its logarithm


def channels(images: Array, pixel_scale: float) -> tuple[Array, Array, Array]:
    """What a network sees of images (B, n, n, band), and the noise of their skies.

    Returns (B, n, n, `count`), the image, what a smooth lens leaves of it, and what of
    that is bluer than the lens, in units of the noise, large values as their logarithm;
    (B, `matched_filter.COUNT`), what templates of arcs gain; and (B, band), the noise
    [counts].  pixel_scale in arcsec.
    """

    def one(image):
        sigma = noise(image)
        scaled = image / sigma[None, None]
        lens = smooth(scaled)
        rest = scaled - lens.light
        rest = rest / jnp.sqrt(1 + (FLOOR * jnp.maximum(scaled, 0)) ** 2)
        blue = bluer(rest, lens.colour)
        small = jnp.concatenate([rest, blue], -1) / COMPRESSED
        seen = jnp.concatenate([jnp.arcsinh(scaled), jnp.arcsinh(small)], -1)
        arcs = jnp.clip(blue if blue.shape[-1] else rest, -STRANGE, STRANGE)
        return seen, matched_filter.gains(arcs, lens.x, lens.y, pixel_scale), sigma

    return batching.each(one, images)


def count(bands: int) -> int:
    """How many channels images of so many bands have."""
    return 3 * bands - 1


def bluer(rest: Array, colour: Array) -> Array:
    """What (n, n, band - 1) is bluer than the lens in the first band against others.

    Light of the lens's colour (band,) [noise] cancels: what is left of the lens itself,
    and companions of its kind.  In units of the noise.
    """
    ratio = colour[0] / jnp.maximum(colour[1:], LEAST_COLOUR)
    ratio = jnp.clip(ratio, 0, 1 / LEAST_COLOUR)[None, None]
    return (rest[..., :1] - ratio * rest[..., 1:]) / jnp.sqrt(1 + ratio**2)


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


class Smooth(NamedTuple):
    """A lens galaxy, as smooth functions have it."""

    light: Array  # (n, n, band), in the image's units
    x: Array  # centre from the middle [pixel]
    y: Array
    colour: Array  # (band,) mean light of the core


def smooth(image: Array) -> Smooth:
    """The lens's light in an image (n, n, band) [noise], as smooth functions have it.

    Least squares of Gaussians of one ellipse, that of the light's moments, with a
    little of one and two waves around it; pixels far above the last fit count less in
    the next, so that arcs and neighbours stay.
    """
    n, bands = image.shape[0], image.shape[-1]
    radius2, angle, x, y = _elliptical(image.mean(-1))
    functions = _functions(radius2, angle)
    k, m = len(functions), n // BIN
    basis = functions.reshape(k, m, BIN, m, BIN).mean((2, 4)).reshape(k, m * m)
    data = image.reshape(m, BIN, m, BIN, bands).mean((1, 3)).reshape(m * m, bands)
    noise = 1 / np.sqrt(BIN**2 * bands)  # of a bin's mean over the bands
    bright = jnp.maximum(data.mean(-1), 0)
    certain = 1 / (1 + (2 * FLOOR * bright) ** 2)

    def fit(weight: Array) -> Array:
        weighted = basis * weight[None]
        normal = weighted @ basis.T
        ridge = 1e-4 * jnp.diagonal(normal) + 1e-6
        factor = jax.scipy.linalg.cho_factor(normal + jnp.diag(ridge), lower=True)
        return jax.scipy.linalg.cho_solve(factor, weighted @ data)

    weight = certain
    for _ in range(FITS - 1):
        rest = data - basis.T @ fit(weight)
        pull = rest.mean(-1) * jnp.sqrt(certain) / noise
        above = jnp.maximum(pull, 0) ** 2 + (jnp.minimum(pull, 0) / LOWER) ** 2
        weight = certain / (1 + above / OUTLIER**2)
    core = jnp.exp(-radius2 / (2 * CORE**2))
    core = core / core.sum()
    colour = (core[..., None] * image).sum((0, 1))
    return Smooth(jnp.tensordot(functions, fit(weight), [[0], [0]]), x, y, colour)


def _elliptical(image: Array) -> tuple[Array, Array, Array, Array]:
    """Squared radius (n, n) about the light's centre in its ellipse, angle, centre."""
    light = photometry.moments(image)
    sound = jnp.stack([*light]).ravel()
    sound = jnp.isfinite(sound).all() & (light.xx + light.yy > 0)

    def known(value: Array) -> Array:
        return jnp.where(sound, value, jnp.zeros_like(value))

    size = jnp.where(sound, light.xx + light.yy, 1)
    a, b = known(light.xx - light.yy) / size, known(2 * light.xy) / size
    e = jnp.hypot(a, b)
    less = jnp.minimum(1, THINNEST / jnp.maximum(e, 1e-6))
    a, b = a * less, b * less
    at = jnp.arange(image.shape[0], dtype=image.dtype) - (image.shape[0] - 1) / 2
    x0, y0 = known(light.x), known(light.y)
    x, y = at[None] - x0, at[:, None] - y0
    along = (1 - a) * x**2 - 2 * b * x * y + (1 + a) * y**2
    return along / jnp.sqrt(1 - a**2 - b**2), jnp.arctan2(y, x), x0, y0


def _functions(radius2: Array, angle: Array) -> Array:
    """Functions (K, n, n) whose squares sum to one."""
    made = [jnp.ones_like(radius2)]
    made += [jnp.exp(-radius2 / (2 * width**2)) for width in WIDTHS]
    for waves, widths in ((2, TWISTED), (1, SHIFTED)):
        for width in widths:
            # smooth at the centre, where an angle has no meaning
            rise = jnp.minimum(jnp.sqrt(radius2) / width, 3) ** waves
            shape = rise * jnp.exp(-radius2 / (2 * width**2))
            made += [shape * jnp.cos(waves * angle), shape * jnp.sin(waves * angle)]
    functions = jnp.stack(made)
    return functions / jnp.sqrt((functions**2).sum((1, 2)))[:, None, None]
