"""A mock lens: a real galaxy, seen through the mass of another in front of it.

Schuldt et al. (2021), figure 3: trace rays back to the source plane, read the source's
surface brightness there, blur it as the telescope would, and add it to the untouched
image of the lens galaxy.  Every step can be differentiated.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax import lens as _lens
from lensjax import render as _render
from lensjax import units
from lensjax.lens import Lens
from lensjax.light import MultiGaussian, Sersic, surface_brightness
from lensjax.light import Stamp as Source
from lensjax.render import SUPERSAMPLING, ray_grid
from lensjax.survey import Survey

__all__ = [
    "MARGIN",
    "SUPERSAMPLING",
    "Source",
    "arcs",
    "photon_noise",
    "ray_grid",
    "render",
    "surface_brightness",
]

MARGIN = 8
"""Survey pixels around a cutout whose light samples take into account.

A PSF reaches farther: what that leaves out is in docs/mocks.md.
"""


_of_source = units.convert(
    lens=units.RECORD, beta_x="arcsec", beta_y="arcsec", source=units.RECORD
)


@_of_source
def render(
    lens_image: Array,
    lens: Lens,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    source: Source | Sersic | MultiGaussian,
    psf: Array,
    survey: Survey,
    supersampling: int = SUPERSAMPLING,
    margin: int | None = None,
) -> Array:
    """Image of a lens galaxy with the arcs of a source behind it.

    Parameters
    ----------
    lens_image : array (n, n, band)
        Cutout of the lens galaxy [counts]; it comes back untouched where no arc is.
    lens : Lens
        Its mass; angles in arcsec from the cutout's centre, x along columns.
    beta_x, beta_y : scalar
        Unlensed position of the source's centre [arcsec].
    source : Source
        The background galaxy: a stamp, or another record of `lensjax.light`.
    psf : array (k, k, band)
        Effective PSF on the survey's pixels, or finer (`Survey.psf_oversampling`); k
        odd.
    survey : Survey
        Pixel scale and size; static under jit.
    supersampling : int
        Rays along the side of a survey pixel.
    margin : int, optional
        Survey pixels around the cutout whose light the PSF may scatter into it; without
        it as many as the PSF reaches, and no light is missed.

    Returns
    -------
    array (n, n, band)
        Counts per pixel.  The arcs' own Poisson noise is neglected, as in the paper;
        `photon_noise` makes some.
    """
    seen = arcs(lens, beta_x, beta_y, source, psf, survey, supersampling, margin)
    return lens_image + seen


@_of_source
def arcs(
    lens: Lens,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    source: Source | Sersic | MultiGaussian,
    psf: Array,
    survey: Survey,
    supersampling: int = SUPERSAMPLING,
    margin: int | None = None,
) -> Array:
    """The lensed source alone, as the survey would see it; see `render`."""
    pixels = _render.pixels_of(survey, psf, supersampling, margin)
    # rays go back from the image, several for each pixel, to the source plane
    x, y = _render.rays(pixels, psf.dtype)
    source_x, source_y = _lens.ray_shoot(lens, x, y)
    # lensing keeps surface brightness: what the ray meets is what the observer sees
    seen = _render.shine(source, source_x - beta_x, source_y - beta_y, pixels)
    # the PSF blurs it, and the survey's pixels add it up
    return _render.record(seen, psf, pixels)


def photon_noise(key: Array, counts: Array, survey: Survey) -> Array:
    """Noise of `counts` (n, n, band) of light, same unit, zero where they are.

    Gaussian with the Poisson variance: jax.random.poisson has no gradient.
    """
    gain = jnp.asarray(survey.gain, counts.dtype)[None, None]
    variance = jnp.maximum(counts, 0) / gain
    # the root has no slope at zero
    sigma = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    noise = sigma * jax.random.normal(key, counts.shape, counts.dtype)
    return jnp.where(variance > 0, noise, 0)
