"""Images of a source by a posterior: places, magnifications, delays, with errors.

Of the source's centre, or of a supernova of which one image was seen: that image is
traced back by every draw, so that it stays where it is and the others move.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import cosmology, images, parameters
from lensjax.cosmology import FlatLambdaCDM
from lensjax.inference import posterior, scene
from lensjax.lens import ray_shoot

RANGE = (0.16, 0.5, 0.84)  # quantiles


class Known(NamedTuple):
    """What is known of an object besides its image; nan where it is not."""

    z_lens: float = jnp.nan
    z_source: float = jnp.nan
    seen_x: float = jnp.nan  # [arcsec] an image of a point source, such as a supernova
    seen_y: float = jnp.nan
    seen_mjd: float = jnp.nan  # [d] when that was


class Images(NamedTuple):
    """Images of one point source, in the order of arrival; nan where there is none.

    The rows of arrays (3, SLOTS) are the quantiles of `RANGE`, over draws that have the
    likeliest number of images.
    """

    number: Array  # () of images, the likeliest
    share: Array  # () probability of that number
    x: Array  # (3, SLOTS) [arcsec]
    y: Array
    magnification: Array  # (3, SLOTS) signed
    total: Array  # (3,) sum of the magnifications' sizes
    delay: Array  # (3, SLOTS) [days] after the first image, or the one that was seen


@jax.jit
def predict(
    draws: Array,
    weight: Array,
    known: Known = Known(),  # noqa: B008, a plain record
    cosmo: FlatLambdaCDM = cosmology.PAPER,
) -> Images:
    """Images of a point source, of draws of a posterior.

    Parameters
    ----------
    draws, weight : array (draw, 13), (draw,)
        Numbers of `inference.SPACE`, as those of a `Fit`; the weights' sum is 1.
    known : Known
        Without redshifts delays are nan; without an image that was seen the source is
        the centre of the fitted one.
    cosmo : FlatLambdaCDM
        For the delays.
    """
    known = jax.tree.map(lambda a: jnp.asarray(a, draws.dtype), known)
    distance = cosmology.time_delay_distance(cosmo, known.z_lens, known.z_source)
    distance = distance.astype(draws.dtype)
    index = scene.NAMES.index

    def of_draw(vector):
        lens = parameters.to_lens(vector, scene.SPACE)
        seen = jnp.isfinite(known.seen_x + known.seen_y)
        place = [jnp.where(seen, a, 0) for a in (known.seen_x, known.seen_y)]
        own = vector[index("source_x")], vector[index("source_y")]
        at = [jnp.where(seen, a, b)
              for a, b in zip(ray_shoot(lens, *place), own, strict=True)]  # fmt: skip
        found = images.solve(lens, *at)
        days = images.arrival_times(lens, found, *at, distance)
        off = jnp.hypot(found.x - place[0], found.y - place[1])
        nearest = jnp.argmin(jnp.where(found.valid, off, jnp.inf))
        first = jnp.where(seen, nearest, 0)
        here = (jnp.arange(images.SLOTS) == first) & jnp.isfinite(days)
        return found, jnp.where(here, 0, days - days[first])  # to the last bit

    found, days = jax.lax.map(of_draw, draws, batch_size=32)
    number = found.valid.sum(-1)
    share = jax.nn.one_hot(number, images.SLOTS + 1, dtype=weight.dtype)
    share = jnp.where(weight > 0, weight, 0) @ share
    most = share.argmax()
    weight = jnp.where(number == most, weight, 0) / share[most]

    def range_of(values):
        return posterior.quantiles(values, weight, RANGE)

    there = jnp.arange(images.SLOTS) < most
    each = [jnp.where(there[None], range_of(jnp.where(found.valid, a, 0)), jnp.nan)
            for a in (found.x, found.y, found.magnification, days)]  # fmt: skip
    size = jnp.where(found.valid, jnp.abs(found.magnification), 0).sum(-1)
    return Images(most, share[most], *each[:3], range_of(size), each[3])
