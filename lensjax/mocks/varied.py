"""Lens galaxies as real cutouts show them: with discs, arms, shells, and company.

`population.cutout` draws one ellipse of light in a field of faint galaxies.  Real
cutouts hold what a network takes for arcs and a fit for images: discs and envelopes of
another shape and colour, spiral arms, bars, shells and rings, satellites and twins of
the lens's own colour, stars, a sky that was not quite subtracted.  Here they are drawn;
what is not the lens comes back apart, so that networks learn to tell it from arcs.
docs/mocks.md says where the figures come from.
"""

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import light, photometry, psf
from lensjax.mock import MARGIN, ray_grid
from lensjax.mocks import segmentation
from lensjax.mocks.population import (
    FINE_PIXELS,
    Drawing,
    Ellipticals,
    SourceLooks,
    counts_slope,
    neighbours,
    observe,
)
from lensjax.survey import Survey

COMPANIONS = 1.3  # of them within 5 arcsec, on average
MOST_COMPANIONS = 5
NEAREST, FARTHEST = 0.8, 5.0  # of companions from the lens [arcsec]
FAINTER = 4.5  # mag than the lens, at most
LENS_COLOURED = 2 / 3  # of companions
DISC = 0.5  # share of lenses with a second component; a spiral always has one
SPIRAL = 0.3
SHELL = 0.3
STARS = 0.15  # a cutout, on average
SKY = 0.3  # left by the subtraction [sky sigma]
REDDENING = (1.0, 0.5, 0.3)  # how g-r, r-i and i-z change together


def cutout(
    key: Array, galaxy: Ellipticals, kernel: Array, survey: Survey, room: int = 0
) -> tuple[Array, Array]:
    """Image (n, n, band) [counts] of a lens galaxy, and the map (n, n) of its parts.

    n is the survey's image size and, on each side, `room` to shift it in.
    """
    k_body, k_near, k_company, k_star, k_noise, k_sky = jax.random.split(key, 6)
    n = survey.image_size + 2 * room + 2 * MARGIN
    scale = survey.pixel_scale / FINE_PIXELS
    x, y = ray_grid(n * FINE_PIXELS, scale, float)
    finer = survey.psf_oversampling

    def seen(scene: Array) -> Array:
        image = psf.blur_and_sample(scene * scale**2, kernel, FINE_PIXELS, finer)
        return image[MARGIN:-MARGIN, MARGIN:-MARGIN]

    near = neighbours(k_near, x, y, survey)
    near += companions(k_company, galaxy, x, y, survey)
    near += stars(k_star, x, y, survey)
    beside = seen(near)
    own = seen(body(k_body, galaxy, x, y, survey))
    image = own + beside
    shown = segmentation.where(own, segmentation.LENS, survey)
    shown |= segmentation.where(beside, segmentation.NEIGHBOUR, survey, over=own)
    return observe(k_noise, image, survey) + sky(k_sky, image, survey), shown


def body(key: Array, galaxy: Ellipticals, x: Array, y: Array, survey: Survey) -> Array:
    """Surface brightness (..., band) of the lens galaxy, its parts and their colours.

    A bulge, an envelope or disc of another shape, angle and colour, spiral arms and a
    bar in it, a shell; the total has the galaxy's magnitudes in i.
    """
    keys = iter(jax.random.split(key, 32))

    def uniform(low: float, high: float) -> Array:
        return jax.random.uniform(next(keys), minval=low, maxval=high)

    def normal(sigma: float) -> Array:
        return sigma * jax.random.normal(next(keys))

    spiral = uniform(0, 1) < SPIRAL
    disc = spiral | (uniform(0, 1) < DISC)
    shell = uniform(0, 1) < SHELL
    in_disc = jnp.where(disc, uniform(0.15, 0.6), 0.0)
    in_bar = jnp.where(spiral, uniform(0.0, 0.15), 0.0)
    in_shell = jnp.where(shell, uniform(0.01, 0.06), 0.0)

    # the disc, or the envelope: larger, turned, off by a little, bluer
    wide = galaxy.radius * uniform(1.2, 2.5)
    q_disc = jnp.clip(galaxy.q + normal(0.15), 0.3, 1)
    phi_disc = galaxy.phi + normal(0.3)
    u, v = _along(x - normal(0.04), y - normal(0.04), phi_disc)
    out = jnp.hypot(u * jnp.sqrt(q_disc), v / jnp.sqrt(q_disc))
    profile = light.sersic(u, v, wide, 1.0, q_disc, 0.0)
    # logarithmic arms, strongest beyond the bulge, of younger stars than the disc
    arms = jnp.where(uniform(0, 1) < 0.7, 2.0, 1.0)
    winding = uniform(-4, 4)
    angle = jnp.arctan2(v / q_disc, u)
    wave = jnp.cos(arms * angle - winding * jnp.log(out / wide + 0.1))
    rise = jnp.clip(2 * out / wide, 0, 1)
    strength = jnp.where(spiral, uniform(0.2, 0.9), 0.0)
    arms_alone = profile * rise * jnp.maximum(wave, 0) ** 2
    profile = profile * (1 + strength * rise * wave)
    in_arms = jnp.where(spiral, uniform(0.0, 0.25), 0.0)

    bulge = light.sersic(x, y, galaxy.radius, galaxy.sersic, galaxy.q, galaxy.phi)
    bar = light.sersic(
        x, y, 0.7 * galaxy.radius, 0.6, 0.3, phi_disc + uniform(0, 3.1416)
    )
    at, thick = uniform(0.8, 3.0), uniform(0.08, 0.4)
    side, turn = uniform(0, 1), uniform(-3.1416, 3.1416)
    ring = jnp.exp(-(((out - at) / thick) ** 2) / 2)
    ring *= jnp.clip(1 + 2 * side * jnp.cos(angle - turn), 0, None)
    ring /= 2 * jnp.pi * at * thick * jnp.sqrt(2 * jnp.pi)

    bluer = -jnp.array(REDDENING)
    no_change = jnp.zeros(3)
    young = bluer * jnp.abs(normal(0.5))  # of arms, or of a ring, of young stars
    components = (
        (1 - in_disc - in_bar - in_shell - in_arms, bulge, no_change),
        (4 * in_arms, arms_alone, young),  # a quarter of the profile lies in them
        (in_disc, profile, bluer * (uniform(-0.05, 0.25) + jnp.where(spiral, 0.15, 0))),
        (in_bar, bar, no_change),
        (in_shell, ring, jnp.where(uniform(0, 1) < 0.5, young, no_change)),
    )
    total = jnp.zeros((*x.shape, len(survey.bands)), x.dtype)
    for share, shape, change in components:
        counts = share * _counts(_recoloured(galaxy.mag, change), survey)
        total += shape[..., None] * counts[None, None]
    return total


def companions(
    key: Array, galaxy: Ellipticals, x: Array, y: Array, survey: Survey
) -> Array:
    """Surface brightness (..., band) of satellites and twins near the lens.

    Poisson(1.3), as likely at any distance from .8 to 5 arcsec, up to 4.5 mag fainter
    than the lens; two of three have its colours, the others are bluer.
    """
    k_number, k_place, k_mag, k_colour, k_size, k_shape = jax.random.split(key, 6)
    most = MOST_COMPANIONS
    there = jnp.arange(most) < jax.random.poisson(k_number, COMPANIONS)
    u = jax.random.uniform(k_place, (2, most))
    away, angle = NEAREST + (FARTHEST - NEAREST) * u[0], 2 * jnp.pi * u[1]
    fainter = counts_slope(k_mag, most, 0.2, 0.0, FAINTER)
    alike = jax.random.uniform(k_colour, (most,)) < LENS_COLOURED
    change = jnp.where(
        alike[:, None],
        0.08 * jax.random.normal(jax.random.fold_in(k_colour, 1), (most, 3)),
        -jnp.array(REDDENING)[None]
        * jax.random.uniform(jax.random.fold_in(k_colour, 2), (most, 1), maxval=1.3),
    )
    mag = jax.vmap(_recoloured, (None, 0))(galaxy.mag, change) + fainter[:, None]
    counts = jnp.where(there[:, None], _counts(mag, survey), 0)
    # smaller as they are fainter: R ~ L^0.5
    scatter = jnp.exp(0.35 * jax.random.normal(k_size, (most,)))
    radius = jnp.clip(0.8 * galaxy.radius * 10 ** (-0.2 * fainter) * scatter, 0.06, 2)
    q, phi, n = jax.random.uniform(k_shape, (3, most))
    each = (
        away * jnp.cos(angle),
        away * jnp.sin(angle),
        counts,
        radius,
        1 + 3 * n,
        0.4 + 0.6 * q,
        jnp.pi * phi,
    )

    def add(total, one):
        x0, y0, counts, radius, n, q, phi = one
        profile = light.sersic(x - x0, y - y0, radius, n, q, phi)
        return total + profile[..., None] * counts[None, None], None

    total = jnp.zeros((*x.shape, len(survey.bands)), x.dtype)
    return jax.lax.scan(add, total, each)[0]


def stars(key: Array, x: Array, y: Array, survey: Survey) -> Array:
    """Surface brightness (..., band) of at most one star, as narrow as rays allow."""
    k_there, k_place, k_mag, k_colour = jax.random.split(key, 4)
    there = jax.random.uniform(k_there) < STARS
    half = x.shape[0] / FINE_PIXELS * survey.pixel_scale / 2
    x0, y0 = jax.random.uniform(k_place, (2,), minval=-half, maxval=half)
    there &= jnp.hypot(x0, y0) > NEAREST
    i = counts_slope(k_mag, 1, 0.15, 18.0, 24.5)[0]
    # from the bluest to M dwarfs
    g_r, r_i = jax.random.uniform(k_colour, (2,), minval=jnp.array([0.2, 0.05]),
                                  maxval=jnp.array([1.5, 1.4]))  # fmt: skip
    mag = jnp.stack([i + r_i + g_r, i + r_i, i, i - 0.5 * r_i])
    sigma = survey.pixel_scale / FINE_PIXELS / 2
    spot = jnp.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    spot /= 2 * jnp.pi * sigma**2
    counts = jnp.where(there, _counts(mag, survey), 0)
    return spot[..., None] * counts[None, None]


def sky(key: Array, image: Array, survey: Survey) -> Array:
    """What the subtraction of the sky left: a level and a slope in each band."""
    n, bands = image.shape[0], len(survey.bands)
    level, along_x, along_y = (
        SKY * jnp.array(survey.sky_sigma)[None] * jax.random.normal(key, (3, bands))
    )
    at = (jnp.arange(n, dtype=image.dtype) - (n - 1) / 2) / n
    return (
        level[None, None]
        + along_x[None, None] * at[None, :, None]
        + along_y[None, None] * at[:, None, None]
    )


def _along(x: Array, y: Array, phi: Array) -> tuple[Array, Array]:
    """Positions along and across a direction."""
    cosine, sine = jnp.cos(phi), jnp.sin(phi)
    return cosine * x + sine * y, cosine * y - sine * x


def _recoloured(mag: Array, change: Array) -> Array:
    """Magnitudes griz (4,) with g-r, r-i and i-z changed by (3,); i stays."""
    g_r, r_i, i_z = change
    zero = jnp.zeros_like(r_i)
    return mag + jnp.stack([g_r + r_i, r_i, zero, -i_z])


def _counts(mag: Array, survey: Survey) -> Array:
    """Counts (..., band) of griz magnitudes (..., 4)."""
    return 10 ** (-0.4 * (photometry.in_bands(mag, survey) - survey.zero_point))


VARIED = Drawing(
    cutout,
    SourceLooks(
        slope=0.10,
        size=1.45,
        colours=(0.40, 0.30, 0.25),
        scatter=(0.30, 0.30, 0.22),
        most_clumps=8,
        in_clumps=(0.1, 0.8),
        noise=4e-4,
    ),
)
"""Lenses as above, and sources as large, red, knotty and noisy as HST's stamps.

Their counts are flatter than the sky's, so that arcs come as bright as faint.
"""
