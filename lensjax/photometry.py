"""What one measures of an image: moments, ellipticity, aperture flux, sky noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax.survey import Survey


class Moments(NamedTuple):
    """Adaptive second moments of a galaxy's light."""

    x: Array  # centroid from the image's centre [pixel]
    y: Array
    xx: Array  # covariance of the best-fitting elliptical Gaussian [pixel^2]
    xy: Array
    yy: Array


def moments(image: Array, start: float = 3.0, steps: int = 30) -> Moments:
    """Adaptive moments of the object at the centre of `image` (n, n).

    The weight is the elliptical Gaussian that matches the object (Bernstein & Jarvis
    2002), found by iteration from a circle of `start` pixels: neighbours and noise far
    out, which rule plain second moments, do not count.  The centroid stays within six
    pixels of the centre.
    """
    n = image.shape[0]
    axis = jnp.arange(n, dtype=image.dtype) - (n - 1) / 2
    gx, gy = jnp.broadcast_to(axis, (n, n)), jnp.broadcast_to(axis[:, None], (n, n))

    def step(_, m):
        det = m.xx * m.yy - m.xy**2
        dx, dy = gx - m.x, gy - m.y
        chi2 = (m.yy * dx**2 - 2 * m.xy * dx * dy + m.xx * dy**2) / det
        weight = image * jnp.exp(-chi2 / 2)
        total = weight.sum()
        total = jnp.where(total > 0, total, 1)
        mean_x, mean_y = (weight * dx).sum() / total, (weight * dy).sum() / total
        # the product of two equal Gaussians has half their variance
        xx = 2 * (weight * (dx - mean_x) ** 2).sum() / total
        yy = 2 * (weight * (dy - mean_y) ** 2).sum() / total
        xy = 2 * (weight * (dx - mean_x) * (dy - mean_y)).sum() / total
        # an ellipse no smaller than a pixel, no larger than the image, not a line
        xx, yy = (jnp.clip(v, 0.5, n**2 / 16) for v in (xx, yy))
        limit = 0.95 * jnp.sqrt(xx * yy)
        return Moments(
            jnp.clip(m.x + 2 * mean_x, -6, 6),
            jnp.clip(m.y + 2 * mean_y, -6, 6),
            xx,
            jnp.clip(xy, -limit, limit),
            yy,
        )

    zero = jnp.zeros((), image.dtype)
    return jax.lax.fori_loop(
        0, steps, step, Moments(zero, zero, zero + start**2, zero, zero + start**2)
    )


def without_psf(galaxy: Moments, psf: Moments) -> Moments:
    """The galaxy's moments before the PSF blurred it: covariances subtract.

    Exact for Gaussians.  A galaxy hardly wider than the PSF keeps a tenth of its
    variance.
    """
    xx = jnp.maximum(galaxy.xx - psf.xx, 0.1 * galaxy.xx)
    yy = jnp.maximum(galaxy.yy - psf.yy, 0.1 * galaxy.yy)
    limit = 0.95 * jnp.sqrt(xx * yy)
    return galaxy._replace(xx=xx, yy=yy, xy=jnp.clip(galaxy.xy - psf.xy, -limit, limit))


def ellipticity(m: Moments) -> tuple[Array, Array]:
    """(ex, ey) of eq. 4, as of a mass with the light's axis ratio and angle.

    (1 - q^2) / (1 + q^2) (cos 2 phi, sin 2 phi) is (xx - yy, 2 xy) / (xx + yy).
    """
    size = m.xx + m.yy
    return (m.xx - m.yy) / size, 2 * m.xy / size


def aperture_flux(image: Array, radius: float) -> Array:
    """Flux within `radius` [pixel] of the centre of `image` (n, n, ...)."""
    n = image.shape[0]
    axis = jnp.arange(n, dtype=image.dtype) - (n - 1) / 2
    inside = jnp.hypot(axis[None, :], axis[:, None]) < radius
    inside = jnp.expand_dims(inside, range(2, image.ndim))
    return jnp.where(inside, image, 0).sum((0, 1))


def background_rms(image: Array) -> Array:
    """Background RMS of each band of a cutout (n, n, ...), by the paper's corner rule.

    Of the four corners of a tenth of the side, the one with the lowest maximum is
    taken, and the root mean square of its pixels (Schuldt et al. 2021, sect. 2.3).  It
    is taken about their mean: in the paper's 40 arcsec cutouts that is the same, in one
    of 10 arcsec the corners still hold lens light, which is no noise.
    """
    k = round(0.1 * image.shape[0])
    corners = jnp.stack(
        [image[:k, :k], image[:k, -k:], image[-k:, :k], image[-k:, -k:]]
    )
    corners = corners.reshape(4, k * k, *image.shape[2:])
    emptiest = corners.max(1).argmin(0)
    rms = corners.std(1)
    return jnp.take_along_axis(rms, emptiest[None], 0)[0]


def in_bands(mag: Array, survey: Survey) -> Array:
    """Magnitudes (..., 4) in griz as those (..., band) in the survey's bands.

    Euclid's VIS sees r, i and z together: the mean of their flux densities.
    """
    red = -2.5 * jnp.log10((10 ** (-0.4 * mag[..., 1:])).mean(-1))
    seen = {"VIS": red} | {b: mag[..., k] for k, b in enumerate("GRIZ")}
    return jnp.stack([seen[band] for band in survey.bands], -1)
