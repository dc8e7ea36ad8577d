"""A mock lens: a real galaxy, seen through the mass of another in front of it.

Schuldt et al. (2021), figure 3: trace rays back to the source plane, read the source's
surface brightness there, blur it as the telescope would, and add it to the untouched
image of the lens galaxy.  Every step can be differentiated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lensjax import lens as _lens
from lensjax import psf as _psf
from lensjax.lens import Lens
from lensjax.survey import Survey

SUPERSAMPLING = 4  # rays along the side of a survey pixel
MARGIN = 8  # survey pixels around the cutout whose light the PSF may scatter into it


class Source(NamedTuple):
    """A galaxy as it would look unlensed; its centre is the middle of the stamp."""

    image: Array  # (m, m, c) flux per stamp pixel [counts], c = 1 or band
    flux: Array  # (band,) factor for each band
    pixel_scale: float  # [arcsec]


def render(
    lens_image: Array,
    lens: Lens,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    source: Source,
    psf: Array,
    survey: Survey,
    supersampling: int = SUPERSAMPLING,
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
        The background galaxy.
    psf : array (k, k, band)
        Effective PSF on the survey's pixels, or finer (`Survey.psf_oversampling`).
    survey : Survey
        Pixel scale and size; static under jit.
    supersampling : int
        Rays along the side of a survey pixel.

    Returns
    -------
    array (n, n, band)
        Counts per pixel.  The arcs' own Poisson noise is neglected, as in the paper;
        `photon_noise` makes some.
    """
    return lens_image + arcs(lens, beta_x, beta_y, source, psf, survey, supersampling)


def arcs(
    lens: Lens,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    source: Source,
    psf: Array,
    survey: Survey,
    supersampling: int = SUPERSAMPLING,
) -> Array:
    """The lensed source alone, as the survey would see it; see `render`."""
    finer = survey.psf_oversampling
    supersampling = -(-supersampling // finer) * finer
    seen = lensed(lens, beta_x, beta_y, source, survey, supersampling)
    recorded = _psf.blur_and_sample(seen, psf, supersampling, finer)
    return (recorded * source.flux[None, None])[MARGIN:-MARGIN, MARGIN:-MARGIN]


def lensed(
    lens: Lens,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    source: Source,
    survey: Survey,
    supersampling: int = SUPERSAMPLING,
) -> Array:
    """The lensed source before any telescope: flux per ray, (rays, rays, c).

    Rays stand `supersampling` to a side of each survey pixel, also in `MARGIN` pixels
    around the cutout; `source.flux` is not in it.
    """
    n = survey.image_size + 2 * MARGIN
    ray_scale = survey.pixel_scale / supersampling
    x, y = ray_grid(n * supersampling, ray_scale, source.image.dtype)
    source_x, source_y = _lens.ray_shoot(lens, x, y)
    # lensing keeps surface brightness: what the ray meets is what the observer sees
    brightness = surface_brightness(source, source_x - beta_x, source_y - beta_y)
    return brightness * ray_scale**2


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


def ray_grid(n: int, scale: float, dtype) -> tuple[Array, Array]:
    """Centres x, y (n, n) [arcsec] of n x n pixels about the origin."""
    axis = (jnp.arange(n, dtype=dtype) - (n - 1) / 2) * scale
    x, y = jnp.broadcast_to(axis, (n, n)), jnp.broadcast_to(axis[:, None], (n, n))
    # as arrays: what reads an axis out of a grid XLA does not vectorise on a CPU
    return lax.optimization_barrier((x, y))


def surface_brightness(source: Source, x: Array, y: Array) -> Array:
    """Brightness [counts/arcsec^2] of the stamp at (x, y) [arcsec] from its middle.

    (...) -> (..., c), bilinear between pixel centres and zero beyond the stamp.
    """
    m = source.image.shape[0]
    edged = jnp.pad(source.image, ((1, 1), (1, 1), (0, 0)))  # zero beyond the stamp
    pixels = edged.reshape((m + 2) ** 2, -1)

    column = jnp.clip(x / source.pixel_scale + (m + 1) / 2, 0, m + 1)
    row = jnp.clip(y / source.pixel_scale + (m + 1) / 2, 0, m + 1)
    left, low = (jnp.minimum(jnp.floor(v), m) for v in (column, row))
    right, up = (column - left)[..., None], (row - low)[..., None]
    corner = low.astype(int) * (m + 2) + left.astype(int)

    # a loop over the two rows: XLA does not fuse across it, and would otherwise trace
    # each ray anew for every pixel and band that it reads
    def add(total, one):
        at = corner + one * (m + 2)
        west = pixels.at[at].get(mode="promise_in_bounds")
        east = pixels.at[at + 1].get(mode="promise_in_bounds")
        share = jnp.where(one == 0, 1 - up, up)
        return total + share * (west * (1 - right) + east * right), None

    nothing = jnp.zeros((*x.shape, pixels.shape[1]), pixels.dtype)
    total, _ = lax.scan(add, nothing, jnp.arange(2, dtype=corner.dtype))
    return total / source.pixel_scale**2
