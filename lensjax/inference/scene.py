"""What a fit varies: lens, shear and source in unconstrained numbers, and their priors.

u    theta_E (ln); ellipticity (disk); centre of the mass less that of the light,
     external shear; place of the source, from the mass, in units of theta_E; radius of
     the source (ln), its Sersic index (logistic) and ellipticity (disk)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import parameters, render
from lensjax.inference.lens_light import Ellipse
from lensjax.lens import Lens
from lensjax.light import Sersic
from lensjax.parameters import DISK, POSITIVE, Parameter, into_disk, out_of_disk
from lensjax.render import Pixels

SPACE = (
    *parameters.WITH_SHEAR,
    parameters.SOURCE_X,
    parameters.SOURCE_Y,
    Parameter(
        "radius", "source_radius_arcsec", "arcsec", "$R$", "half light", POSITIVE
    ),
    Parameter("n", "source_n", "", "$n$", "Sersic index of the source", POSITIVE),
    Parameter("source_ex", "source_ex", "", "$e_{x,s}$", "of the source", DISK),
    Parameter("source_ey", "source_ey", "", "$e_{y,s}$", "of the source", DISK),
)
"""What a fit finds, in the order of its vectors."""

NAMES = parameters.names(SPACE)
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


def physical(u: Array, light: Ellipse) -> Array:
    """The numbers of `SPACE` (..., 13) that u (..., 13) stands for."""
    (size, a, b, dx, dy, g1, g2, sx, sy, radius, index, c, d) = jnp.moveaxis(u, -1, 0)
    theta = jnp.exp(size)
    x, y = light.x + dx, light.y + dy
    n = INDEX[0] + (INDEX[1] - INDEX[0]) * jax.nn.sigmoid(index)
    out = (x, y, *into_disk(a, b), theta, g1, g2, x + theta * sx, y + theta * sy,
           jnp.exp(radius), n, *into_disk(c, d))  # fmt: skip
    return jnp.stack(out, -1)


def parts(vector: Array, bands: int) -> tuple[Lens, Sersic]:
    """Lens and source of unit flux in each band, of numbers (13,) as in `SPACE`."""
    x, y, radius, n, ex, ey = vector[len(parameters.WITH_SHEAR) :]
    flux = jnp.ones(bands, vector.dtype)
    return parameters.to_lens(vector, SPACE), Sersic(flux, radius, n, ex, ey, x, y)


def arcs(u: Array, light: Ellipse, psf: Array, pixels: Pixels) -> Array:
    """Image (n, n, band) of the lensed source of unit flux in each band."""
    lens, source = parts(physical(u, light), psf.shape[-1])
    return render.lensed(source, lens, psf, pixels)


def prior_residuals(u: Array, light: Ellipse, priors: Priors) -> Array:
    """Departures from the priors in their widths; half their squares is the cost."""
    e = out_of_disk(light.ex, light.ey)
    means = jnp.stack([
        jnp.asarray(priors.ln_theta_E[0], u.dtype), *e, *jnp.zeros((6,), u.dtype),
        *jnp.asarray([priors.ln_radius[0], priors.index[0], 0, 0], u.dtype),
    ])  # fmt: skip
    width = jnp.asarray(
        [priors.ln_theta_E[1], *[priors.ellipticity] * 2, *[priors.centre] * 2,
         *[priors.shear] * 2, *[priors.source_place] * 2, priors.ln_radius[1],
         priors.index[1], *[priors.source_ellipticity] * 2], u.dtype)  # fmt: skip
    return (u - means) / width
