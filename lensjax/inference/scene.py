"""What a fit varies: lens, shear and source in unconstrained numbers, and their priors.

u    theta_E (ln); ellipticity (disk); centre of the mass less that of the light,
     external shear; place of the source, from the mass, in units of theta_E; radius of
     the source (ln), its Sersic index (logistic) and ellipticity (disk)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import render
from lensjax.inference.lens_light import Ellipse
from lensjax.lens import Lens
from lensjax.light import Sersic
from lensjax.render import Pixels
from lensjax.shear import Shear
from lensjax.sie import SIE

NAMES = (
    "theta_E", "ex", "ey", "x", "y", "g1", "g2",
    "source_x", "source_y", "radius", "n", "source_ex", "source_ey",
)  # fmt: skip
INDEX = 0.4, 4.4  # least and largest Sersic index


class Priors(NamedTuple):
    """Normal priors, mean and width; change with `_replace`."""

    ln_theta_E: tuple[float, float] = (0.1, 0.5)  # noqa: N815
    ellipticity: float = 0.1  # each component, about the light's
    centre: float = 0.05  # [arcsec] each, about the light's
    shear: float = 0.05  # each
    source_place: float = 0.4  # each, theta_E
    ln_radius: tuple[float, float] = (-1.6, 0.7)  # [arcsec]
    index: tuple[float, float] = (-0.8, 1.0)  # logistic
    source_ellipticity: float = 0.35  # each, of the disk's unconstrained


def disk(a: Array, b: Array) -> tuple[Array, Array]:
    """From the plane into the unit disk."""
    scale = 1 / jnp.sqrt(1 + a**2 + b**2)
    return a * scale, b * scale


def undisk(a: Array, b: Array) -> tuple[Array, Array]:
    """From the unit disk onto the plane."""
    scale = 1 / jnp.sqrt(1 - a**2 - b**2)
    return a * scale, b * scale


def physical(u: Array, light: Ellipse) -> Array:
    """The numbers of `NAMES` (..., 13) that u (..., 13) stands for."""
    (size, a, b, dx, dy, g1, g2, sx, sy, radius, index, c, d) = jnp.moveaxis(u, -1, 0)
    theta = jnp.exp(size)
    x, y = light.x + dx, light.y + dy
    n = INDEX[0] + (INDEX[1] - INDEX[0]) * jax.nn.sigmoid(index)
    out = (theta, *disk(a, b), x, y, g1, g2, x + theta * sx, y + theta * sy,
           jnp.exp(radius), n, *disk(c, d))  # fmt: skip
    return jnp.stack(out, -1)


def parts(vector: Array, bands: int) -> tuple[Lens, Sersic]:
    """Lens and source of unit flux in each band."""
    theta, ex, ey, x, y, g1, g2, sx, sy, radius, n, c, d = vector
    lens = Lens(SIE(theta, ex, ey, x, y), Shear(g1, g2))
    flux = jnp.ones(bands, vector.dtype)
    return lens, Sersic(flux, radius, n, c, d, sx, sy)


def arcs(u: Array, light: Ellipse, psf: Array, pixels: Pixels) -> Array:
    """Image (n, n, band) of the lensed source of unit flux in each band."""
    lens, source = parts(physical(u, light), psf.shape[-1])
    return render.lensed(source, lens, psf, pixels)


def prior_residuals(u: Array, light: Ellipse, priors: Priors) -> Array:
    """Departures from the priors in their widths; half their squares is the cost."""
    e = undisk(light.ex, light.ey)
    means = jnp.stack([
        jnp.asarray(priors.ln_theta_E[0], u.dtype), *e, *jnp.zeros((6,), u.dtype),
        *jnp.asarray([priors.ln_radius[0], priors.index[0], 0, 0], u.dtype),
    ])  # fmt: skip
    width = jnp.asarray(
        [priors.ln_theta_E[1], *[priors.ellipticity] * 2, *[priors.centre] * 2,
         *[priors.shear] * 2, *[priors.source_place] * 2, priors.ln_radius[1],
         priors.index[1], *[priors.source_ellipticity] * 2], u.dtype)  # fmt: skip
    return (u - means) / width
