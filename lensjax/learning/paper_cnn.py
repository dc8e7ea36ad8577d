"""The paper's estimator: five numbers of an SIE, by a weighted mean squared error."""

import functools
from typing import NamedTuple

from jax import Array

from lensjax.learning import network, scaling
from lensjax.learning.estimator import Estimator, targets
from lensjax.learning.network import Architecture

ZERO_POINT = 27.0  # AB magnitude of one count as networks see it


class Settings(NamedTuple):
    """What the network is and how it sees images; hashable."""

    architecture: Architecture = Architecture()
    scaling: str = "none"  # of the images, see `scaling.scaled`
    zero_point: float = ZERO_POINT  # of the images


def predict(
    params: dict, images: Array, settings: Settings, key: Array | None = None
) -> Array:
    """Predictions (B, 5) of one network for images (B, n, n, band) in counts.

    All surveys' counts are brought to one zero point.  Drops neurons only where a `key`
    is given.
    """
    if settings.zero_point != ZERO_POINT:
        images = images * 10 ** (0.4 * (ZERO_POINT - settings.zero_point))
    images = scaling.scaled(images, settings.scaling)
    return network.apply(params, images, settings.architecture, key=key)


def loss(predicted: Array, truth: Array, weights: Array) -> Array:
    """Weighted mean squared error of each system (Schuldt et al. 2021, eq. 6).

    (B, 5), (B, 5), (5,) -> (B,): average it over the batch for the paper's L.
    """
    return ((predicted - truth) ** 2 * weights[None, :]).mean(-1)


@functools.cache
def estimator(settings: Settings) -> Estimator:
    """The paper's network with these settings; the same one for the same settings."""

    def loss_of(params, scenes, systems, weights, key):
        predicted = predict(params, scenes.seen, settings, key)
        return loss(predicted, targets(systems), weights)

    return Estimator(
        init=lambda key: network.init(key, settings.architecture),
        loss=loss_of,
        predict=lambda params, images: predict(params, images, settings),
    )
