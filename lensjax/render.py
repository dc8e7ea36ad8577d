"""From a scene to pixels: rays, light, PSF and pixels, for any record of light.

    x, y = rays(pixels)                                     where one looks
    seen = shine(source, *ray_shoot(lens, x, y), pixels)    what one meets there
    image = record(seen, psf, pixels)                       what the telescope makes

`lensed` and `unlensed` are these in one.  Rays stand `supersampling` to a side of each
pixel, and go on for a margin around the image, whose light the PSF scatters into it.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lensjax import lens as _lens
from lensjax import light, units
from lensjax import psf as _psf
from lensjax.lens import Lens
from lensjax.survey import Survey

SUPERSAMPLING = 4  # rays along the side of a pixel


class Pixels(NamedTuple):
    """How a scene becomes an image; plain numbers, static under jit."""

    size: int  # pixels along the side of the image, even or odd
    scale: float  # of a pixel [arcsec]
    margin: int  # pixels around the image that are traced besides
    supersampling: int = SUPERSAMPLING  # rays along the side of a pixel
    psf_oversampling: int = 1  # PSF pixels along the side of a pixel; odd


def pixels_of(
    survey: Survey,
    psf: Array,
    supersampling: int = SUPERSAMPLING,
    margin: int | None = None,
) -> Pixels:
    """Pixels of a survey's cutouts, seen through a PSF (k, k, band).

    The margin is as wide as the PSF reaches, so that no light is missed; a smaller one
    is faster.  Rays are as many as asked for, or more where the PSF is finer.
    """
    finer = survey.psf_oversampling
    reach = -(-(psf.shape[0] // 2) // finer)
    return Pixels(
        survey.image_size,
        survey.pixel_scale,
        reach if margin is None else margin,
        -(-supersampling // finer) * finer,
        finer,
    )


def rays(pixels: Pixels, dtype: Any = jnp.float32) -> tuple[Array, Array]:
    """Positions x, y (m, m) [arcsec] of the rays about the image's centre."""
    n = (pixels.size + 2 * pixels.margin) * pixels.supersampling
    return ray_grid(n, pixels.scale / pixels.supersampling, dtype)


@units.convert(scale="arcsec")
def ray_grid(n: int, scale: float, dtype: Any) -> tuple[Array, Array]:
    """Centres x, y (n, n) [arcsec] of n x n pixels about the origin."""
    axis = (jnp.arange(n, dtype=dtype) - (n - 1) / 2) * scale
    x, y = jnp.broadcast_to(axis, (n, n)), jnp.broadcast_to(axis[:, None], (n, n))
    # as arrays: what reads an axis out of a grid XLA does not vectorise on a CPU
    return lax.optimization_barrier((x, y))


class Traced(NamedTuple):
    """Light that falls on the rays, and what turns it into each band's."""

    pattern: Array  # (m, m, c) flux per ray, c = 1 or band
    flux: Array  # (band,) factors


@units.convert(source=units.RECORD, x="arcsec", y="arcsec")
def shine(source: Any, x: Array, y: Array, pixels: Pixels) -> Traced:
    """Light that rays meet where they hit a source at (x, y) (m, m) [arcsec]."""
    pattern, flux = light.factored(source, x, y)
    return Traced(pattern * (pixels.scale / pixels.supersampling) ** 2, flux)


def record(seen: Traced, psf: Array, pixels: Pixels) -> Array:
    """Counts per pixel (n, n, band) of traced light, blurred by a PSF (k, k, band)."""
    blurred = _psf.blur_and_sample(
        seen.pattern, psf, pixels.supersampling, pixels.psf_oversampling
    )
    n, m = pixels.size, pixels.margin
    return (blurred * seen.flux[None, None])[m : m + n, m : m + n]


def lensed(source: Any, lens: Lens, psf: Array, pixels: Pixels) -> Array:
    """Image (n, n, band) [counts] of a source record behind a lens."""
    x, y = rays(pixels, psf.dtype)
    return record(shine(source, *_lens.ray_shoot(lens, x, y), pixels), psf, pixels)


def unlensed(source: Any, psf: Array, pixels: Pixels) -> Array:
    """Image (n, n, band) [counts] of light that no lens bends: the lens galaxy's."""
    return record(shine(source, *rays(pixels, psf.dtype), pixels), psf, pixels)
