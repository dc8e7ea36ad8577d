"""A mixture of normal distributions of several numbers, as a network's last layer.

Each component has a weight, a mean and a full covariance, the last as a matrix that
whitens: what is left of (numbers - mean) after it has unit variance.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

LEAST_SIGMA = 0.01  # of a whitened number: no component is narrower


class Mixture(NamedTuple):
    """K normal distributions of D numbers; any axes in front."""

    log_weight: Array  # (..., K), their exponentials sum to one
    mean: Array  # (..., K, D)
    whitening: Array  # (..., K, D, D)
    log_det: Array  # (..., K) ln |det whitening|


def outputs(components: int, dimensions: int) -> int:
    """How many outputs of a network a mixture takes."""
    return components * (1 + dimensions + dimensions * (dimensions + 1) // 2)


def of_outputs(values: Array, components: int, dimensions: int) -> Mixture:
    """The mixture that outputs (..., `outputs`) stand for."""
    d = dimensions
    values = values.reshape(*values.shape[:-1], components, -1)
    logit, mean, below, diagonal = jnp.split(
        values, [1, 1 + d, 1 + d + d * (d - 1) // 2], -1
    )
    # means that start apart: components that start alike stay alike
    apart = jnp.asarray(_apart(components, d), values.dtype)
    mean = mean + apart.reshape((1,) * (mean.ndim - 2) + apart.shape)
    most = 1 / LEAST_SIGMA
    diagonal = 1e-3 + most * jax.nn.sigmoid(diagonal - np.log(most))
    rows, columns = np.tril_indices(d, -1)
    whitening = jnp.zeros((*values.shape[:-1], d, d), values.dtype)
    whitening = whitening.at[..., rows, columns].set(below)
    whitening = whitening.at[..., np.arange(d), np.arange(d)].set(diagonal)
    log_weight, log_det = (
        jax.nn.log_softmax(logit[..., 0], -1),
        jnp.log(diagonal).sum(-1),
    )
    return Mixture(log_weight, mean, whitening, log_det)


@functools.cache
def _apart(components: int, dimensions: int) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(components, dimensions))
    return (0.5 * drawn).astype(np.float32)


def log_density(mixture: Mixture, numbers: Array) -> Array:
    """Return ln p (...) of numbers (..., D)."""
    off = numbers[..., None, :] - mixture.mean
    # no matrix product: D is small, and single precision shall stay it on a GPU
    white = (mixture.whitening * off[..., None, :]).sum(-1)
    d = mixture.mean.shape[-1]
    each = mixture.log_det - (white**2).sum(-1) / 2 - d / 2 * np.log(2 * np.pi)
    return jax.scipy.special.logsumexp(mixture.log_weight + each, axis=-1)


def mean(mixture: Mixture) -> Array:
    """The mean (..., D) of all components."""
    return (jnp.exp(mixture.log_weight)[..., None] * mixture.mean).sum(-2)


def sigma(mixture: Mixture) -> Array:
    """The standard deviation (..., D) of each number."""
    root = jnp.linalg.inv(mixture.whitening)
    middle = mean(mixture)
    each = (root**2).sum(-1) + (mixture.mean - middle[..., None, :]) ** 2
    return jnp.sqrt((jnp.exp(mixture.log_weight)[..., None] * each).sum(-2))


def draw(key: Array, mixture: Mixture, n: int) -> Array:
    """Draws (n, ..., D)."""
    k_which, k_where = jax.random.split(key)
    shape = mixture.log_weight.shape[:-1]
    which = jax.random.categorical(k_which, mixture.log_weight, shape=(n, *shape))

    def chosen(a: Array, axes: int) -> Array:
        index = which.reshape(*which.shape, *[1] * axes)
        return jnp.take_along_axis(a[None], index, axis=-axes)[..., 0, :]

    d = mixture.mean.shape[-1]
    root = jnp.linalg.inv(mixture.whitening)  # its columns are a component's axes
    flat = root.reshape(*root.shape[:-2], d * d)
    root = chosen(flat, 2).reshape(n, *shape, d, d)
    white = jax.random.normal(k_where, (n, *shape, d), mixture.mean.dtype)
    return chosen(mixture.mean, 2) + jnp.einsum("...ij,...j->...i", root, white)


def turned(mixture: Mixture, matrix: Array) -> Mixture:
    """The mixture of `matrix` (D, D), which is orthogonal, times the numbers."""
    return mixture._replace(
        mean=mixture.mean @ matrix.T, whitening=mixture.whitening @ matrix.T
    )


def pooled(mixtures: Mixture) -> Mixture:
    """One mixture (...) of several (S, ...), each as likely as the next."""
    count = mixtures.log_weight.shape[0]

    def side_by_side(a: Array, axis: int) -> Array:
        return jnp.concatenate(list(a), axis=axis)

    return Mixture(
        side_by_side(mixtures.log_weight, -1) - np.log(count),
        side_by_side(mixtures.mean, -2),
        side_by_side(mixtures.whitening, -3),
        side_by_side(mixtures.log_det, -1),
    )
