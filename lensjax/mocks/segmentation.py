"""What each pixel of a mock shows: the lens galaxy, an arc, a neighbour, or several.

A map (n, n) of uint8 has a bit for each.  A part is where its light, all bands
together, is `VISIBLE` times the sky's noise; a neighbour also has to be a share of the
lens's light, or its wings would reach everywhere.
"""

import jax.numpy as jnp
from jax import Array

from lensjax.survey import Survey

NAMES = "lens", "arc", "neighbour"
LENS, ARC, NEIGHBOUR = 1, 2, 4
VISIBLE = 2.0  # sky sigma
SHARE = 0.25  # of the lens's light


def where(light: Array, part: int, survey: Survey, over: Array | None = None) -> Array:
    """The map (n, n) of one part whose light is (n, n, band) [counts], noise-free.

    over: light of which it has to be `SHARE` at least.
    """

    def significance(light: Array) -> Array:
        snr = light / jnp.asarray(survey.sky_sigma, light.dtype)[None, None]
        return jnp.sqrt((snr**2).sum(-1))

    own = significance(light)
    seen = own > VISIBLE
    if over is not None:
        seen &= own > SHARE * significance(over)
    return jnp.where(seen, jnp.uint8(part), jnp.uint8(0))


def planes(maps: Array) -> Array:
    """Maps (...) as three planes (..., 3) of 0 and 1, in the order of `NAMES`."""
    bits = [(maps & part) > 0 for part in (LENS, ARC, NEIGHBOUR)]
    return jnp.stack(bits, -1).astype(jnp.float32)
