"""The likelihood of a lens and a source, for samplers and optimisers of one's own.

ready = inference.prepare(observation)                      once: the lens's light
jax.jit(lambda v: inference.log_likelihood(v, ready))       pure, differentiable
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax.inference import basis as bases
from lensjax.inference import levenberg_marquardt as descent
from lensjax.inference import scene
from lensjax.inference.basis import Basis
from lensjax.inference.lens_light import LensLight
from lensjax.inference.problem import (
    DEFAULT,
    USUAL,
    Settings,
    arrays_of,
    chi2_without_arcs,
    prepared,
)
from lensjax.inference.scene import Priors
from lensjax.observation import Observation
from lensjax.render import Pixels, lensed


class Ready(NamedTuple):
    """An observation whose lens light is fitted, and what is eliminated with it."""

    light: LensLight
    basis: Basis
    psf: Array
    pixels: Pixels  # plain numbers: close over them, or pass them as static
    chi2: Array  # without arcs


def prepare(
    observation: Observation,
    settings: Settings = DEFAULT,
    light: LensLight | None = None,
) -> Ready:
    """Make ready what `log_likelihood` wants: the lens galaxy's light is dealt with.

    Parameters
    ----------
    observation : Observation
        As for `inference.fit`.
    settings : Settings
        The radius, the width of the residual modes and the number of rays count.
    light : LensLight
        `Fit.light` of a fit with the same settings: that of a galaxy without its arcs.
        Without it the light is fitted here, arcs and all, which moves its centre
        towards the brighter arc, and with it the mass.

    Returns
    -------
    Ready
        In the precision of JAX's default.
    """
    planes, pixels, _ = arrays_of(observation, settings)
    light = jax.tree.map(lambda a: jnp.asarray(a, planes.image.dtype), light)

    @jax.jit
    def ready(planes, light):
        own = planes._replace(pixel_scale=pixels.scale)
        if light is None:
            light, basis = prepared(own, settings.mode)
        else:
            basis = bases.of(own, light, settings.mode)
        return light, basis, chi2_without_arcs(own, basis)

    light, basis, chi2 = ready(planes, light)
    return Ready(light, basis, planes.psf, pixels, chi2)


def log_posterior(
    u: ArrayLike,
    ready: Ready,
    priors: Priors = USUAL,
    temperature: float | Array = 1.0,
) -> Array:
    """Logarithm of the fit's posterior in unconstrained numbers, up to a constant.

    Parameters
    ----------
    u : array (13,)
        Any real numbers: `inference.scene.physical(u, ready.light.ellipse)` are those
        of `inference.SPACE`, `scene.unconstrained` goes back.
    ready : Ready
        Of `prepare`.
    priors : Priors
        Normal in u.
    temperature : float
        chi2 is divided by it; that of a fit is `Fit.temperature`.
    """
    u = jnp.asarray(u, ready.psf.dtype)
    ellipse = ready.light.ellipse
    prior = scene.prior_residuals(u, ellipse, priors)
    vector = scene.physical(u, ellipse)
    return log_likelihood(vector, ready, temperature) - (prior**2).sum() / 2


def log_likelihood(
    parameters: ArrayLike,
    observation: Ready | Observation,
    temperature: float | Array = 1.0,
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
