"""A model of a lens fitted to an image, written with what the library gives.

What a user writes is `log_posterior` and `fit`: some twenty lines.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lensjax import light, noise, observation, parameters, psf, render
from lensjax.observation import Observation
from lensjax.parameters import POSITIVE, SOURCE_X, SOURCE_Y, Parameter
from lensjax.survey import HSC

RADIUS = Parameter(
    "radius", "radius_arcsec", "arcsec", "$R$", "of the source", POSITIVE
)
FLUX = Parameter("flux", "flux", "", "$f$", "of the source [counts]", POSITIVE)
SPACE = (*parameters.WITH_SHEAR, SOURCE_X, SOURCE_Y, RADIUS, FLUX)
TRUTH = (0.02, -0.03, 0.12, -0.2, 1.2, 0.02, -0.01, 0.1, 0.06, 0.25, 60.0)


def model(u, data):
    """Image of a lensed exponential disc, of unconstrained numbers."""
    vector = parameters.constrained(u, SPACE)
    x, y, radius, flux = vector[7:]
    source = light.Sersic(flux[None], radius, 1.0, 0.0, 0.0, x, y)
    lens = parameters.to_lens(vector, SPACE)
    return render.lensed(source, lens, data.psf, observation.pixels(data, margin=8))


def log_posterior(u, data):
    prior = -0.5 * ((u[5:7] / 0.05) ** 2).sum()  # shear
    return observation.log_likelihood(data, model(u, data)) + prior


def fit(start, data, steps=60):
    def cost(u):
        return -log_posterior(u, data)

    rule = optax.lbfgs()
    value_and_slope = optax.value_and_grad_from_state(cost)

    def step(carry, _):
        u, state = carry
        value, slope = value_and_slope(u, state=state)
        update, state = rule.update(
            slope, state, u, value=value, grad=slope, value_fn=cost
        )
        return (optax.apply_updates(u, update), state), value

    # optax counts in both widths of integers
    with jax.numpy_dtype_promotion("standard"):
        (best, _), costs = jax.lax.scan(step, (start, rule.init(start)), length=steps)
    return best, costs


def fisher(u, data):
    """Information matrix of the likelihood, by forward mode."""
    slopes = jax.jacfwd(model)(u, data)
    return jnp.einsum("yxbi,yxb,yxbj->ij", slopes, 1 / data.variance, slopes)


@functools.cache
def mock_data(precision):
    """An HSC-like image in i, with its noise, of 40 x 40 pixels."""
    dtype = jnp.dtype(precision)
    kernel = psf.moffat(dtype.type(0.61), 3.0, 0.0, 0.0, 25, 0.168)[..., None]
    sky = noise.Noise(np.array([HSC.sky_sigma[2] ** 2]), np.array([HSC.gain[2]]))
    blank = jnp.zeros((40, 40, 1), dtype)
    data = Observation(blank, blank + 1, kernel, np.zeros((40, 40, 1), bool), 0.168)
    to_unconstrained = jax.jit(lambda v: parameters.unconstrained(v, SPACE))
    u = to_unconstrained(jnp.asarray(TRUTH, dtype))
    mean = jitted(model)(u, data)
    # the same noise in both precisions
    draws = np.random.default_rng(4).standard_normal(mean.shape)
    variance = noise.variance(sky, mean)
    image = mean + jnp.sqrt(variance) * jnp.asarray(draws, dtype)
    return u, data._replace(image=image, variance=variance)


def jitted(function):
    """`function(u, data)` compiled for the numbers u alone, the data held fixed."""
    return lambda u, data: jax.jit(lambda u: function(u, data))(u)


def differences(function, u, h=1e-5):
    steps = h * jnp.eye(len(u), dtype=u.dtype)
    many = jax.jit(lambda rows: jax.lax.map(function, rows))
    ends = many(jnp.concatenate([u[None] + steps, u[None] - steps]))
    above, below = jnp.split(np.asarray(ends, float), 2)
    return np.moveaxis(np.asarray(above - below) / (2 * h), 0, -1)


@pytest.fixture(scope="module")
def by_differences():
    """Slope of the posterior and Fisher matrix near the truth, by differences."""
    with jax.enable_x64(True):
        truth, data = mock_data("float64")
        u = truth + 0.02 * jnp.asarray(np.random.default_rng(1).standard_normal(11))
        slope = differences(lambda u: log_posterior(u, data), u)
        slopes = differences(lambda u: model(u, data), u)
        weighted = slopes / np.asarray(data.variance)[..., None]
        return np.asarray(u), slope, np.einsum("yxbi,yxbj->ij", weighted, slopes)


def test_slope_and_fisher_matrix_are_those_of_finite_differences(dtype, by_differences):
    at, slope, information = by_differences
    _, data = mock_data(dtype.name)
    u = jnp.asarray(at, dtype)
    rtol = 1e-4 if dtype == jnp.float64 else 1e-2
    scale = np.sqrt(np.diag(information))
    found = np.asarray(jitted(jax.grad(log_posterior))(u, data)) / scale
    np.testing.assert_allclose(found, slope / scale, rtol=rtol, atol=rtol)
    found = np.asarray(jitted(fisher)(u, data)) / np.outer(scale, scale)
    expected = information / np.outer(scale, scale)
    np.testing.assert_allclose(found, expected, atol=rtol)


def test_a_mock_is_recovered_from_the_truths_neighbourhood(dtype):
    truth, data = mock_data(dtype.name)
    rng = np.random.default_rng(7)
    information = np.array(jitted(fisher)(truth, data), float)
    information[[5, 6], [5, 6]] += 1 / 0.05**2
    sigma = np.sqrt(np.diag(np.linalg.inv(information)))
    start = truth + jnp.asarray(5 * sigma * rng.standard_normal(11), dtype)
    best, costs = jitted(fit)(start, data)
    pull = np.asarray(best - truth, float) / sigma
    assert np.sqrt((pull**2).mean()) < 1.6 and abs(pull).max() < 3.5, pull
    seen = jitted(model)(best, data)
    chi2 = noise.chi_squared(observation.noise(data), data.image, seen)
    # 1600 pixels, 11 numbers: within four standard deviations
    assert abs(chi2 - 1589) < 4 * np.sqrt(2 * 1589)
    assert costs[-1] < costs[0]
