"""What a network says of an observation, for a fit: theta_E, neighbours, whether arcs.

A network sees images of one survey; an observation of other bands or pixels has nothing
to read.  One of the survey is cropped to the network's size, and what it says comes
back on the observation's own pixels.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import parameters
from lensjax.inference import candidate
from lensjax.learning import posterior, predicted, pretrained
from lensjax.learning.pretrained import Model
from lensjax.mocks import segmentation
from lensjax.observation import Observation
from lensjax.survey import Survey

CLOSE = 1.02  # of two pixel scales that are taken for the same
SURE = 0.5  # probability from which on a pixel is a neighbour's


class Reading(NamedTuple):
    """What a network says; positions from the middle of the observation [arcsec]."""

    numbers: dict[str, float]  # see `posterior.described`
    ln_theta_E: tuple[float, float]  # mean and standard deviation
    neighbours: np.ndarray  # (n, n) bool: pixels that a neighbour rules
    arcs: np.ndarray  # (n, n) probability that a pixel shows an arc


def unreadable(observation: Observation, seen: Survey, model: Model) -> str:
    """Why the network has nothing to say of an observation; empty where it has."""
    own = model.survey
    scale = float(observation.pixel_scale) / own.pixel_scale
    if model.estimator.posterior is None:
        return f"{model.name} predicts points"
    if seen.bands != own.bands:
        return f"{model.name} sees {', '.join(own.bands)}, not {', '.join(seen.bands)}"
    if not 1 / CLOSE < scale < CLOSE:
        return (
            f"{model.name} sees pixels of {own.pixel_scale:g} arcsec, not "
            f"{observation.pixel_scale:g}"
        )
    if len(observation.image) < own.image_size:
        return f"{model.name} sees {own.image_size} pixels a side"
    return ""


def read(observation: Observation, model: Model) -> Reading:
    """What a network says of an observation that it can read, see `unreadable`."""
    size, n = model.survey.image_size, len(observation.image)
    first = (n - size) // 2
    inside = slice(first, first + size)
    # the middle of an odd image lies half a pixel off that of the crop
    shift = (first + (size - 1) / 2 - (n - 1) / 2) * float(observation.pixel_scale)
    image = candidate.filled(
        np.asarray(observation.image)[inside, inside],
        np.asarray(observation.mask)[inside, inside],
    )
    found = _said(model.estimator, model.params, jnp.asarray(image[None], jnp.float32))
    numbers, (mean, sigma), maps = jax.tree.map(np.asarray, found)
    at = dict(zip(segmentation.NAMES, np.moveaxis(maps[0], -1, 0), strict=True))
    whole = {name: np.zeros((n, n)) for name in at}
    for name, values in at.items():
        whole[name][inside, inside] = values
    rules = (whole["neighbour"] > SURE) & (whole["neighbour"] > whole["arc"])
    numbers = {name: float(value[0]) for name, value in numbers.items()}
    predicted.move(numbers, shift)
    return Reading(numbers, (float(mean[0]), float(sigma[0])), rules, whole["arc"])


@functools.partial(jax.jit, static_argnums=0)
def _said(estimator, params: dict, images: Array):
    space = (*estimator.space, *parameters.SOURCE)
    found = estimator.posterior(params, estimator.see(images))
    return (
        posterior.described(found, space),
        posterior.ln_theta_E(found, space),
        jax.nn.sigmoid(found.parts),
    )


@functools.cache
def named(name: str) -> Model:
    """The network of a name or file, read once; ValueError as `pretrained.load`."""
    return pretrained.load(name)
