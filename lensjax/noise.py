"""Noise of an image: one record that gives its variance, draws it and judges a model.

Counts are Gaussian about the model with the variance

    background + model / gain:

the sky and the detector's, and the photons of the model itself.  A survey knows its
gain; a file that has a variance of its own has all of it in `background`, with a gain
of infinity.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax.survey import Survey


class Noise(NamedTuple):
    """Noise of an image (n, n, band)."""

    background: ArrayLike  # (band,) or (n, n, band) variance without light [counts^2]
    gain: ArrayLike  # (band,) photo-electrons per count; inf: light adds no noise


def of_survey(survey: Survey) -> Noise:
    """The noise of a survey's coadds, by its own numbers."""
    return Noise(jnp.asarray(survey.sky_sigma) ** 2, jnp.asarray(survey.gain))


def of_variance(variance: ArrayLike) -> Noise:
    """Noise that is known pixel by pixel: a variance (n, n, band) [counts^2]."""
    variance = jnp.asarray(variance)
    return Noise(variance, jnp.full(variance.shape[-1:], jnp.inf, variance.dtype))


def variance(noise: Noise, model: ArrayLike) -> Array:
    """Variance (n, n, band) [counts^2] of an image whose mean is `model` [counts].

    Light below zero has no photons: it adds nothing.
    """
    model = jnp.asarray(model)
    background, gain = (_banded(a, model) for a in noise)
    return background + jnp.maximum(model, 0) / gain


def sample(key: Array, noise: Noise, model: ArrayLike) -> Array:
    """One noisy image (n, n, band) of a mean `model` [counts].

    Gaussian with the Poisson variance: jax.random.poisson has no gradient.
    """
    model = jnp.asarray(model)
    sigma = jnp.sqrt(variance(noise, model))
    return model + sigma * jax.random.normal(key, model.shape, model.dtype)


def log_likelihood(
    noise: Noise, image: ArrayLike, model: ArrayLike, mask: ArrayLike | None = None
) -> Array:
    """Logarithm of the probability density of an image, given a model of it.

    Parameters
    ----------
    noise : Noise
        Variances above zero wherever `mask` is False.
    image, model : array (n, n, band)
        Counts.
    mask : array (n, n, band) of bool, optional
        True where a pixel is bad and does not count, as in numpy and astropy; what
        stands there, nan too, has no say in the value or in a gradient.

    Returns
    -------
    scalar
        -1/2 sum of ((image - model)^2 / variance + ln(2 pi variance)).
    """
    miss, spread, good = _compared(noise, image, model, mask)
    each = miss**2 / spread + jnp.where(good, jnp.log(2 * jnp.pi * spread), 0)
    return -each.sum() / 2


def chi_squared(
    noise: Noise, image: ArrayLike, model: ArrayLike, mask: ArrayLike | None = None
) -> Array:
    """Sum of (image - model)^2 / variance over the pixels that count, by band."""
    miss, spread, _ = _compared(noise, image, model, mask)
    return (miss**2 / spread).sum((0, 1))


def _compared(noise, image, model, mask) -> tuple[Array, Array, Array]:
    """Image less model, its variance, and which pixels count: the others 0 and 1."""
    image, model = jnp.asarray(image), jnp.asarray(model)
    good = jnp.ones(image.shape, bool) if mask is None else ~jnp.asarray(mask)
    # on both sides of each where: neither a bad pixel's nan nor its slope gets through
    image, model = jnp.where(good, image, 0), jnp.where(good, model, 0)
    spread = jnp.where(good, variance(noise, model), 1)
    return image - model, spread, good


def _banded(values: ArrayLike, model: Array) -> Array:
    """Values by band, or by pixel and band, with the model's number of axes."""
    values = jnp.asarray(values, model.dtype)
    return values.reshape((1,) * (model.ndim - values.ndim) + values.shape)
