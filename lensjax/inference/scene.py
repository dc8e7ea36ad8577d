"""What a fit varies: lens, shear and source in unconstrained numbers, and their priors.

u    theta_E (ln); ellipticity (disk); centre of the mass less that of the light
     [arcsec] and external shear (disks of `REACH` and `SHEAR`); place of the source,
     from the mass, in units of theta_E; radius of the source (ln), its Sersic index
     (logistic) and ellipticity (disk)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import parameters, render
from lensjax.inference.lens_light import Ellipse
from lensjax.lens import Lens, ray_shoot
from lensjax.light import Sersic
from lensjax.parameters import DISK, POSITIVE, Parameter, into_disk, out_of_disk
from lensjax.render import Pixels, Traced

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
REACH = 0.15  # [arcsec] from the light's centre to the mass's, at most
SHEAR = 0.3  # largest external shear


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
    dx, dy = into_disk(dx / REACH, dy / REACH)
    g1, g2 = into_disk(g1 / SHEAR, g2 / SHEAR)
    x, y, g1, g2 = light.x + REACH * dx, light.y + REACH * dy, SHEAR * g1, SHEAR * g2
    n = INDEX[0] + (INDEX[1] - INDEX[0]) * jax.nn.sigmoid(index)
    out = (x, y, *into_disk(a, b), theta, g1, g2, x + theta * sx, y + theta * sy,
           jnp.exp(radius), n, *into_disk(c, d))  # fmt: skip
    return jnp.stack(out, -1)


def unconstrained(vector: Array, light: Ellipse) -> Array:
    """The inverse of `physical`; not finite on the edges of what is allowed."""
    (x, y, ex, ey, theta, g1, g2, sx, sy, radius, n, c, d) = jnp.moveaxis(vector, -1, 0)
    index = (n - INDEX[0]) / (INDEX[1] - INDEX[0])
    mass = out_of_disk((x - light.x) / REACH, (y - light.y) / REACH)
    shear = out_of_disk(g1 / SHEAR, g2 / SHEAR)
    out = (jnp.log(theta), *out_of_disk(ex, ey), *(REACH * v for v in mass),
           *(SHEAR * v for v in shear), (sx - x) / theta, (sy - y) / theta,
           jnp.log(radius), jnp.log(index / (1 - index)),
           *out_of_disk(c, d))  # fmt: skip
    return jnp.stack(out, -1)


def parts(vector: Array, bands: int) -> tuple[Lens, Sersic]:
    """Lens and source of unit flux in each band, of numbers (13,) as in `SPACE`."""
    x, y, radius, n, ex, ey = vector[len(parameters.WITH_SHEAR) :]
    flux = jnp.ones(bands, vector.dtype)
    return parameters.to_lens(vector, SPACE), Sersic(flux, radius, n, ex, ey, x, y)


def traced(u: Array, light: Ellipse, pixels: Pixels, bands: int) -> Traced:
    """What the rays meet of a lensed source of unit flux in each band."""
    lens, source = parts(physical(u, light), bands)
    x, y = render.rays(pixels, u.dtype)
    return render.shine(source, *ray_shoot(lens, x, y), pixels)


def arcs(u: Array, light: Ellipse, psf: Array, pixels: Pixels) -> Array:
    """Image (n, n, band) of the lensed source of unit flux in each band."""
    return render.record(traced(u, light, pixels, psf.shape[-1]), psf, pixels)


def prior_residuals(u: Array, light: Ellipse, priors: Priors) -> Array:
    """Departures from the priors in their widths; half their squares is the cost."""
    e = out_of_disk(light.ex, light.ey)
    p, zero = jax.tree.map(lambda a: jnp.asarray(a, u.dtype), priors), 0 * u[0]
    means = [p.ln_theta_E[0], *e, *[zero] * 6, p.ln_radius[0], p.index[0], zero, zero]
    widths = [p.ln_theta_E[1], *[p.ellipticity] * 2, *[p.centre] * 2, *[p.shear] * 2,
              *[p.source_place] * 2, p.ln_radius[1], p.index[1],
              *[p.source_ellipticity] * 2]  # fmt: skip
    return (u - jnp.stack(means)) / jnp.stack(widths)
