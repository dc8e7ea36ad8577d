"""Posteriors of one mock by four ways: weighted draws, chains, numpyro, blackjax."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from test_inference import SETTINGS, TRUTH, mock

from lensjax import inference
from lensjax.inference import scene

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
LOOSE = {
    "jax_numpy_dtype_promotion": "standard",  # as users have it; the samplers' own code
    "jax_numpy_rank_promotion": "allow",
}
THETA_E = inference.NAMES.index("theta_E")


@pytest.fixture
def usual():
    """JAX as users have it."""
    before = {name: getattr(jax.config, name) for name in LOOSE}
    for name, value in LOOSE.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def weighted():
    return inference.fit(mock(), SETTINGS)


def widths(fit):
    return np.sqrt(np.diag(fit.covariance))


def test_unconstrained_numbers_come_back(weighted):
    ellipse = weighted.light.ellipse
    u = scene.unconstrained(weighted.draws, ellipse)
    again = scene.physical(u, ellipse)
    np.testing.assert_allclose(again, weighted.draws, rtol=1e-4, atol=1e-4)


def test_chains_have_the_truth_and_agree_with_the_weighted_draws(weighted):
    settings = SETTINGS._replace(draws=100)
    chains = inference.sample(weighted, mock(), settings)
    assert chains.draws.shape[1] == 13
    assert chains.weight.sum() == pytest.approx(1, abs=1e-5)
    assert float(chains.r_hat) < 1.2 and float(chains.effective) > 50
    assert float(chains.divergences) < 10
    sigma = widths(chains)
    off = (np.asarray(chains.median) - np.asarray(weighted.median)) / sigma
    assert abs(off[:7]).max() < 1, off
    assert abs(chains.median[THETA_E] - TRUTH.sie.theta_E) < 4 * sigma[THETA_E] + 0.01


@pytest.mark.parametrize("by", ["numpyro", "blackjax"])
def test_the_examples_agree_with_the_fit(by, usual):
    run = runpy.run_path(str(EXAMPLES / f"{by}_fit.py"))["run"]
    samples, fit = run(mock(), SETTINGS, draws=150, warmup=100)
    theta = samples["theta_E"] if by == "numpyro" else samples[:, THETA_E]
    theta = np.asarray(theta)
    assert theta.shape == (150,) and np.isfinite(theta).all()
    sigma = max(float(theta.std()), float(widths(fit)[THETA_E]))
    assert theta.mean() == pytest.approx(float(fit.median[THETA_E]), abs=2 * sigma)
