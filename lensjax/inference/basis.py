"""What is eliminated from an image before arcs are looked for: the lens galaxy's light.

Around the fitted light all that it might be is linear: the Gaussians' fluxes, the sky,
small changes of centre and ellipse band by band, and *residual modes*: the light times
windows in ln r times cos and sin of up to 4 phi, with a normal prior of `MODE` on each
coefficient.  Modes take up isophotes that twist, dust, a PSF that is not quite right.
An image less all of this, in units of the noise, is `whiten`; inner products of such
images are those of the likelihood with these coefficients integrated over.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax.inference import lens_light
from lensjax.inference.lens_light import Ellipse, LensLight
from lensjax.observation import Observation

MODE = 0.03  # of the light, prior of a mode's coefficient
WINDOWS = (0.12, 4.0, 6)  # radii [arcsec] of the first and last, and how many
MULTIPOLES = 4
SHIFT, ELLIPTICITY = (
    0.03,
    0.05,
)  # priors: [arcsec] of a band's centre, of its ellipticity
NEAR = 1e-3  # [arcsec] from the centre, where a mode has no angle
TINY = 1e-8  # of <s, s>: a template without light has no flux
FREE = 1e3  # times a column's norm: no prior to speak of


class Basis(NamedTuple):
    """Of one observation; pixels in a row, bands first."""

    root: Array  # (band, pixel) one over the noise, 0 where a pixel does not count
    q: Array  # (band, pixel, column) what is eliminated
    rest: Array  # (band, pixel) the data in units of the noise, less that


def flat(images: Array) -> Array:
    """Images (..., n, n, band) as (..., band, pixel)."""
    images = jnp.moveaxis(images, -1, -3)
    return images.reshape(*images.shape[:-2], -1)


def modes(light: LensLight, pixel_scale: float) -> Array:
    """Residual modes (mode, n, n, band) of unit coefficient [counts]."""
    n = light.image.shape[0]
    place = (jnp.arange(n, dtype=light.image.dtype) - (n - 1) / 2) * pixel_scale
    x, y = place[None] - light.ellipse.x, place[:, None] - light.ellipse.y
    first, last, number = WINDOWS
    r2 = x**2 + y**2 + NEAR**2
    at = (jnp.log(r2) / 2 - np.log(first)) / np.log(last / first)
    at = jnp.clip(at * (number - 1), 0, number - 1)
    windows = [jnp.clip(1 - jnp.abs(at - j), 0, 1) for j in range(number)]
    # cos and sin of m phi one after the other: no angle, which the centre has not
    c, s = x / jnp.sqrt(r2), y / jnp.sqrt(r2)
    turns, (cos, sin) = [jnp.ones_like(c)], (c, s)
    for _ in range(MULTIPOLES):
        turns += [cos, sin]
        cos, sin = cos * c - sin * s, sin * c + cos * s
    each = jnp.stack([w * t for w in windows for t in turns])
    return each[..., None] * jnp.maximum(light.image, 0)[None]


def of(observation: Observation, light: LensLight, mode: float = MODE) -> Basis:
    """The basis of an observation around its lens galaxy's light."""
    n, scale = light.image.shape[0], observation.pixel_scale
    psf, e = jnp.asarray(observation.psf), light.ellipse

    def galaxy(*ellipse):
        return lens_light.galaxy(Ellipse(*ellipse), light.flux, psf, n, scale)

    slopes = jax.jacfwd(galaxy, (0, 1, 2, 3))(*e)
    widths = (SHIFT, SHIFT, ELLIPTICITY, ELLIPTICITY)
    bounded = [s * w for s, w in zip(slopes, widths, strict=True)]
    bounded = jnp.concatenate([jnp.stack(bounded), mode * modes(light, scale)])
    free = lens_light.gaussians(e, psf, n, scale)
    free = jnp.concatenate([free, jnp.ones_like(free[:1])])

    root = flat(jnp.where(observation.mask, 0, 1 / jnp.sqrt(observation.variance)))
    free, bounded = flat(free) * root[None], flat(bounded) * root[None]
    free = FREE * free / (jnp.sqrt((free**2).sum(-1, keepdims=True)) + 1e-30)
    columns = jnp.moveaxis(jnp.concatenate([free, bounded]), 0, -1)
    bands, pixels, number = columns.shape
    prior = jnp.broadcast_to(
        jnp.eye(number, dtype=columns.dtype), (bands, number, number)
    )
    q, _ = jnp.linalg.qr(jnp.concatenate([columns, prior], 1))
    q = q[:, :pixels]
    data = flat(jnp.asarray(observation.image)) * root
    return Basis(root, q, data - project(q, project_onto(q, data)))


class Seen(NamedTuple):
    """An image in units of the noise, beside what is eliminated; norm 1 a band."""

    row: Array  # (band, pixel)
    size: Array  # (band,) its norm before
    inside: Array  # (band, column) of what is eliminated
    own: Array  # (band,) its square, less that within
    data: Array  # (band,) its product with the data

    @property
    def flux(self) -> Array:
        """The best positive flux of each band, of `row`."""
        return jnp.maximum(self.data, 0) / self.own


def see(image: Array, basis: Basis) -> Seen:
    """What a likelihood asks of an image (n, n, band)."""
    row = flat(image) * basis.root
    size = jnp.sqrt((row**2).sum(-1)) + 1e-30
    row = row / size[:, None]
    inside = project_onto(basis.q, row)
    own = (row**2).sum(-1) - (inside**2).sum(-1) + TINY
    return Seen(row, size, inside, own, (row * basis.rest).sum(-1))


def left_of(seen: Seen, basis: Basis) -> Array:
    """An image (band, pixel) at its best fluxes, less what the light takes of it."""
    return (seen.row - project(basis.q, seen.inside)) * seen.flux[:, None]


def project_onto(q: Array, images: Array) -> Array:
    """Coefficients (..., band, column) of whitened images (..., band, pixel)."""
    return jnp.einsum("bpc,...bp->...bc", q, images)


def project(q: Array, coefficients: Array) -> Array:
    """The images that coefficients stand for, the transpose of `project_onto`."""
    return jnp.einsum("bpc,...bc->...bp", q, coefficients)
