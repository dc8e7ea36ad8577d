"""Where arcs may be: templates of lensed sources held against an image, as starts.

A matched filter over theta_E and the place of the source: each template has its best
positive flux in every band, the lens galaxy's light being eliminated before, and what
that takes off chi2 says how likely it is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import parameters
from lensjax.inference import basis as bases
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference import scene
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import Ellipse
from lensjax.inference.scene import Priors
from lensjax.render import Pixels

RINGS = ((0.04, 1), (0.2, 5), (0.4, 8), (0.6, 10), (0.8, 12))  # radius, places
SMALLEST, LARGEST, SIZES = 0.35, 2.6, 13  # theta_E [arcsec]
SHARE_OF_SIDE = 0.42  # of the image's side: no theta_E is larger
SECTORS = 12
RADIUS, INDEX = 0.2, -1.6  # of the templates' sources: [arcsec]; logistic, n = 1.07
APART = 0.15, 0.3  # of two starts: in ln theta_E, and in the source's place


def places(largest: float) -> np.ndarray:
    """Templates (template, 3): ln theta_E and the source's place in units of it."""
    sizes = np.geomspace(SMALLEST, min(LARGEST, largest), SIZES)
    spots = [
        (r * np.cos(a), r * np.sin(a))
        for k, (r, number) in enumerate(RINGS)
        for a in 2 * np.pi * (np.arange(number) + 0.5 * (k % 2)) / number
    ]
    return np.array([(np.log(t), *spot) for t in sizes for spot in spots])


def vectors(at: Array, light: Ellipse) -> Array:
    """Unconstrained numbers (template, 13) of templates: mass that follows light."""
    one, none = jnp.ones_like(at[:, 0]), jnp.zeros_like(at[:, 0])
    a, b = parameters.out_of_disk(light.ex, light.ey)
    fields = [at[:, 0], a * one, b * one, none, none, none, none, at[:, 1], at[:, 2]]
    fields += [float(np.log(RADIUS)) * one, INDEX * one, none, none]
    return jnp.stack(fields, -1)


def sectors(light: Ellipse, pixels: Pixels, dtype: Any) -> Array:
    """Which of `SECTORS` about the lens a pixel lies in: (sector, pixel) of 0 and 1."""
    place = (
        jnp.arange(pixels.size, dtype=dtype) - (pixels.size - 1) / 2
    ) * pixels.scale
    angle = jnp.arctan2(place[:, None] - light.y, place[None] - light.x).ravel()
    at = jnp.floor(angle / (2 * jnp.pi) * SECTORS) % SECTORS
    return (at[None] == jnp.arange(SECTORS, dtype=dtype)[:, None]).astype(dtype)


def shared_gain(image: Array, basis: Basis, parts: Array) -> Array:
    """What each sector (sector,) has of the gain of an image at its best fluxes."""
    left = bases.left_of(bases.see(image, basis), basis)
    return jnp.einsum("sp,bp->s", parts, left * (2 * basis.rest - left))


def starts(
    number: int,
    basis: Basis,
    light: Ellipse,
    psf: Array,
    pixels: Pixels,
    priors: Priors,
    temperature: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """The best starts (number, 13), no two alike, and the largest gain of a template.

    temperature: by the largest gain, what chi2 is divided by.
    """
    largest = SHARE_OF_SIDE * pixels.size * pixels.scale
    at = jnp.asarray(places(largest), basis.rest.dtype)
    u = vectors(at, light)

    def scored(u):
        gain = descent.gain_of(scene.arcs(u, light, psf, pixels), basis, positive=True)
        return gain, (scene.prior_residuals(u, light, priors) ** 2).sum()

    gain, prior = jax.lax.map(scored, u)
    gain = jnp.where(jnp.isfinite(gain), gain, 0)
    score = gain / temperature(gain.max()) - prior
    chosen = []
    for _ in range(number):
        k = jnp.argmax(score)
        chosen.append(k)
        near = jnp.abs(at[:, 0] - at[k, 0]) < APART[0]
        near &= jnp.hypot(*(at[:, 1:] - at[None, k, 1:]).T) < APART[1]
        score = jnp.where(near, -jnp.inf, score)
    return u[jnp.stack(chosen)], gain.max()
