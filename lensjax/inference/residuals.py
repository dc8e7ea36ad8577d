"""What a fit makes of an image: lens light, arcs, and what is left over."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import light as _light
from lensjax.inference import basis as bases
from lensjax.inference import scene
from lensjax.inference.lens_model import Fit
from lensjax.inference.problem import DEFAULT, Settings, framed, pixels_of
from lensjax.observation import Observation
from lensjax.render import Pixels, lensed


class Explained(NamedTuple):
    """Parts of an image (n, n, band); light + arcs + residual * noise is the data."""

    image: np.ndarray  # the data, cut to what was fitted
    light: np.ndarray  # of the lens galaxy, with its sky and residual modes [counts]
    arcs: np.ndarray  # the lensed source [counts]
    residual: np.ndarray  # what is left, over the noise; nan where masked
    source: np.ndarray  # (n, n) the source unlensed, in units of its peak, see `extent`
    extent: float  # [arcsec] half the side of `source`, about its centre


def explain(
    observation: Observation, fit: Fit, settings: Settings = DEFAULT
) -> Explained:
    """The parts of an observation by the best mode of its fit."""
    observation = framed(observation, settings)
    pixels = pixels_of(observation, settings)
    planes = observation._replace(pixel_scale=None)
    planes = jax.tree.map(jnp.asarray, planes)
    light, arcs, residual = _parts(planes, fit.light, fit.modes[0], pixels, settings)
    extent = 5 * float(fit.modes[0][scene.NAMES.index("radius")])
    x, y = np.meshgrid(*[np.linspace(-extent, extent, 101)] * 2)
    _, source = scene.parts(jnp.asarray(fit.modes[0]), 1)
    source = source._replace(x=0.0, y=0.0)
    seen = np.asarray(_brightness(source, x.astype("f4"), y.astype("f4")))[..., 0]
    residual = np.where(observation.mask, np.nan, residual)
    image = np.asarray(observation.image)
    return Explained(
        image, np.asarray(light), np.asarray(arcs), residual, seen / seen.max(), extent
    )


@jax.jit
def _brightness(source, x, y) -> Array:
    return _light.brightness(source, x, y)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _parts(planes, light, mode, pixels: Pixels, settings: Settings):
    observation = planes._replace(pixel_scale=pixels.scale)
    basis = bases.of(observation, light, settings.mode)
    n, bands = observation.image.shape[0], observation.image.shape[-1]
    lens, source = scene.parts(mode, bands)
    image = lensed(source, lens, observation.psf, pixels)
    seen = bases.see(image, basis)
    rest = basis.rest - bases.left_of(seen, basis)
    rest = jnp.moveaxis(rest.reshape(bands, n, n), 0, -1)
    arcs = image * (seen.flux / seen.size)[None, None]
    sigma = jnp.sqrt(observation.variance)
    return observation.image - arcs - rest * sigma, arcs, rest
