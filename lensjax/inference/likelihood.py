"""The likelihood of a lens and a source, for samplers and optimisers of one's own.

ready = inference.prepare(observation)                      once: the lens's light
jax.jit(lambda v: inference.log_likelihood(v, ready))       pure, differentiable
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference import scene
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import LensLight
from lensjax.inference.problem import (
    DEFAULT,
    Settings,
    chi2_without_arcs,
    framed,
    pixels_of,
    prepared,
)
from lensjax.observation import Observation
from lensjax.render import Pixels, lensed


class Ready(NamedTuple):
    """An observation whose lens light is fitted, and what is eliminated with it."""

    light: LensLight
    basis: Basis
    psf: Array
    pixels: Pixels  # plain numbers: close over them, or pass them as static
    chi2: Array  # without arcs


def prepare(observation: Observation, settings: Settings = DEFAULT) -> Ready:
    """Fit the lens galaxy's light; what `log_likelihood` wants.

    In the precision of JAX's default.  Of `settings` the radius, the width of the
    residual modes and the number of rays count.
    """
    observation = framed(observation, settings)
    pixels = pixels_of(observation, settings)
    planes = [jnp.asarray(a, jnp.zeros(()).dtype) for a in observation[:3]]

    @jax.jit
    def ready(image, variance, psf, mask):
        own = Observation(image, variance, psf, mask, pixels.scale)
        light, basis = prepared(own, settings.mode)
        return light, basis, chi2_without_arcs(own, basis)

    light, basis, chi2 = ready(*planes, jnp.asarray(observation.mask))
    return Ready(light, basis, planes[2], pixels, chi2)


def log_likelihood(
    parameters: ArrayLike, observation: Ready | Observation, temperature: float = 1.0
) -> Array:
    """Logarithm of the likelihood of a lens and a Sersic source, up to a constant.

    Parameters
    ----------
    parameters : array (13,)
        Numbers of `inference.SPACE`, in its order and units.
    observation : Ready or Observation
        What `prepare` makes of an observation; of an observation itself the lens's
        light is fitted anew in every call.
    temperature : float
        chi2 is divided by it; see `inference.Settings.most_gain`.

    Returns
    -------
    Array
        Scalar: -chi2 / 2, with the source's flux in each band at its best, and the
        lens's light, its residual modes and the sky integrated out (all linear, with
        normal priors).  Differentiable, also twice and under vmap.
    """
    ready = observation if isinstance(observation, Ready) else prepare(observation)
    vector = jnp.asarray(parameters, ready.psf.dtype)
    lens, source = scene.parts(vector, ready.psf.shape[-1])
    arcs = lensed(source, lens, ready.psf, ready.pixels)
    gain = descent.gain_of(arcs, ready.basis)
    return -(ready.chi2 - gain) / (2 * temperature)
