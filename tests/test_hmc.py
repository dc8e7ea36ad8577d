"""Chains of the fit's sampler, against normals and posteriors that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.inference import hmc
from lensjax.inference.problem import Settings

SETTINGS = Settings(chains=4, draws=500, warmup=100)


def test_chains_of_a_normal_have_its_mean_and_covariance():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4))
    precision = jnp.asarray(a @ a.T * 4 + 2 * np.eye(4), jnp.float32)
    mean = jnp.asarray([0.3, -1.0, 2.0, 0.0])

    def cost(u):
        return 0.5 * (u - mean) @ precision @ (u - mean)

    run = jax.jit(lambda key: hmc.chains_of(key, mean, precision, cost, SETTINGS))
    found = run(jax.random.key(0))
    assert found.u.shape == (4, 500, 4) and float(found.diverged) == 0
    assert float(found.r_hat) < 1.05 and float(found.effective) > 400
    draws = np.asarray(found.u).reshape(-1, 4)
    truth = np.linalg.inv(np.asarray(precision, float))
    sigma = np.sqrt(np.diag(truth))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.15 * sigma.max())
    scatter = np.cov(draws.T) / np.outer(sigma, sigma)
    np.testing.assert_allclose(scatter, truth / np.outer(sigma, sigma), atol=0.12)


def test_chains_follow_a_bent_posterior_that_its_hessian_does_not_tell():
    """x normal, y about x^2: the mean of y is one, though the mode's is nought."""

    def cost(u):
        return u[0] ** 2 / 2 + (u[1] - u[0] ** 2) ** 2 / (2 * 0.5**2)

    hessian = jax.hessian(cost)(jnp.zeros(2))
    run = jax.jit(lambda k: hmc.chains_of(k, jnp.zeros(2), hessian, cost, SETTINGS))
    draws = np.asarray(run(jax.random.key(1)).u).reshape(-1, 2)
    assert draws[:, 1].mean() == pytest.approx(1, abs=0.2)
    assert draws[:, 1].var() == pytest.approx(2 + 0.25, rel=0.35)
    assert draws[:, 0].std() == pytest.approx(1, abs=0.12)


def test_a_density_without_numbers_leaves_the_chains_where_they_are():
    run = jax.jit(
        lambda key: hmc.chains_of(
            key, jnp.zeros(2), jnp.eye(2), lambda u: u[0] * jnp.nan, SETTINGS
        )
    )
    found = run(jax.random.key(2))
    assert np.isfinite(found.u).all()
    assert not float(found.r_hat) < 1.1
