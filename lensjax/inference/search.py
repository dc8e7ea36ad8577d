"""Where arcs may be: templates of lensed sources held against an image, as starts.

A matched filter over theta_E and the place of the source: each template has its best
positive flux in every band, the lens galaxy's light being eliminated before, and what
that takes off chi2 says how likely it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import parameters
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference import scene
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import Ellipse
from lensjax.inference.scene import Priors
from lensjax.render import Pixels

RINGS = ((0.04, 1), (0.2, 5), (0.4, 8), (0.6, 10), (0.8, 12))  # radius, places
SMALLEST, LARGEST, SIZES = 0.35, 2.6, 13  # theta_E [arcsec]
SHARE_OF_SIDE = 0.42  # of the image's side: no theta_E is larger
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


def starts(
    number: int,
    basis: Basis,
    light: Ellipse,
    psf: Array,
    pixels: Pixels,
    priors: Priors,
    temperature: float,
) -> Array:
    """The best starts (number, 13) in unconstrained numbers, no two alike."""
    largest = SHARE_OF_SIDE * pixels.size * pixels.scale
    at = jnp.asarray(places(largest), basis.rest.dtype)
    u = vectors(at, light)

    def scored(u):
        image = scene.arcs(u, light, psf, pixels)
        gain = descent.gain_of(image, basis, positive=True)
        prior = (scene.prior_residuals(u, light, priors) ** 2).sum()
        return gain / temperature - prior

    score = jax.lax.map(scored, u, batch_size=8)
    chosen = []
    for _ in range(number):
        k = jnp.argmax(score)
        chosen.append(k)
        near = jnp.abs(at[:, 0] - at[k, 0]) < APART[0]
        near &= jnp.hypot(*(at[:, 1:] - at[None, k, 1:]).T) < APART[1]
        score = jnp.where(near, -jnp.inf, score)
    return u[jnp.stack(chosen)]
