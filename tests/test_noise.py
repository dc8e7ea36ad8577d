"""Noise: one record draws images and judges models of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lensjax import noise
from lensjax.survey import DES, HSC


def some_image(dtype, n=24, band=4):
    rng = np.random.default_rng(2)
    return jnp.asarray(rng.gamma(0.5, 20.0, (n, n, band)), dtype)


def test_the_variance_is_the_skys_and_that_of_the_models_photons(dtype):
    model = some_image(dtype).at[0, 0].set(-5)
    found = noise.variance(noise.of_survey(DES), model)
    sky, gain = np.array(DES.sky_sigma), np.array(DES.gain)
    expected = sky**2 + np.maximum(np.asarray(model, float), 0) / gain
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    known = noise.of_variance(found)
    np.testing.assert_array_equal(noise.variance(known, 7 * model), found)


def test_drawn_images_scatter_as_the_variance_says():
    model = some_image(jnp.float32, 8)
    one = noise.of_survey(HSC)._replace(gain=jnp.array([1.0, 2.0, 5.0, jnp.inf]))
    keys = jax.random.split(jax.random.key(3), 4000)
    drawn = np.asarray(jax.vmap(lambda key: noise.sample(key, one, model))(keys), float)
    sigma = np.sqrt(np.asarray(noise.variance(one, model), float))
    pull = (drawn.mean(0) - np.asarray(model)) / (sigma / np.sqrt(len(keys)))
    assert abs(pull.std() - 1) < 0.15 and abs(pull).max() < 4.5
    np.testing.assert_allclose(drawn.std(0), sigma, rtol=0.06)


def test_the_likelihood_is_that_of_independent_gaussians(dtype):
    model, key = some_image(dtype), jax.random.key(0)
    one = noise.of_survey(HSC)
    image = noise.sample(key, one, model)
    sigma = np.sqrt(np.asarray(noise.variance(one, model), float))
    expected = stats.norm.logpdf(np.asarray(image, float), model, sigma)
    found = noise.log_likelihood(one, image, model)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected.sum(), rtol=3e-6)
    pulls = (np.asarray(image, float) - np.asarray(model)) / sigma
    found = noise.chi_squared(one, image, model)
    np.testing.assert_allclose(found, (pulls**2).sum((0, 1)), rtol=1e-4)


def test_masked_pixels_have_no_say_whatever_stands_there(dtype):
    model = some_image(dtype)
    one = noise.of_survey(HSC)
    image = noise.sample(jax.random.key(1), one, model)
    mask = np.zeros(image.shape, bool)
    mask[3:6, 4], mask[9, 9, 1] = True, True
    broken = image.at[3:6, 4].set(jnp.nan).at[9, 9, 1].set(jnp.inf)
    bad_model = model.at[3, 4, 0].set(jnp.nan)

    def judged(image, model):
        return noise.log_likelihood(one, image, model, mask)

    both = jax.jit(jax.value_and_grad(judged, (0, 1)))
    good, bad = both(image, model), both(broken, bad_model)
    for a, b in zip(*map(jax.tree.leaves, (good, bad)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert not np.asarray(good[1][1])[mask].any()
    kept = stats.norm.logpdf(image, model, np.sqrt(noise.variance(one, model)))
    np.testing.assert_allclose(good[0], kept[~mask].sum(), rtol=1e-5)


def test_the_slope_in_the_model_is_that_of_finite_differences(x64):
    model = some_image(float, 6) + 1
    one = noise.of_survey(HSC)._replace(gain=jnp.full(4, 2.0))
    image = noise.sample(jax.random.key(1), one, model)

    def judged(scale):
        return noise.log_likelihood(one, image, scale * model)

    h = 1e-4
    slope = (judged(1.0 + h) - judged(1.0 - h)) / (2 * h)
    bend = (judged(1.0 + h) - 2 * judged(1.0) + judged(1.0 - h)) / h**2
    np.testing.assert_allclose(jax.grad(judged)(1.0), slope, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(jax.grad(judged))(1.0), bend, rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_batches_of_cotangents_are_a_loop_of_them(precision):
    with jax.enable_x64(precision == "float64"):
        model = some_image(precision, 64)
        many = jnp.stack([some_image(precision, 64) * (k + 1) for k in range(5)])
        one = noise.of_survey(HSC)

        def back(w):
            return jax.vjp(lambda m: noise.variance(one, m), model)[1](w)[0]

        together = jax.jit(jax.vmap(back))(many)
        np.testing.assert_allclose(together, np.stack([back(w) for w in many]), 1e-6)


def test_second_derivatives_come_out_alike_in_whatever_order(dtype):
    """Of a whole image: XLA has summed such derivatives wrongly on a CPU."""
    rng = np.random.default_rng(8)
    x, y = (jnp.asarray(rng.normal(size=(128, 128, 1)), dtype) for _ in "xy")
    one = noise.of_variance(jnp.full(x.shape, 4.0, dtype))

    def model(t):
        return jnp.sin(t[0] * x + jnp.cos(t[1]) * y + t[2] * x * y)

    t = jnp.asarray([0.3, 0.2, 0.1], dtype)
    image = noise.sample(jax.random.key(0), one, model(t))

    def judged(t):
        return noise.log_likelihood(one, image, model(t))

    h = 1e-5
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, float), (x, y, image, one, t))

        def in_double(t):
            x, y, image, one, _ = wide
            mean = jnp.sin(t[0] * x + jnp.cos(t[1]) * y + t[2] * x * y)
            return noise.log_likelihood(one, image, mean)

        slope = jax.jit(jax.vmap(jax.grad(in_double)))
        steps = h * np.eye(3)
        at = np.asarray(wide[-1])[None]
        expected = np.asarray(slope(at + steps) - slope(at - steps)) / (2 * h)
    scale = np.abs(expected).max()
    for outer, inner in ((jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacfwd)):
        found = jax.jit(outer(inner(judged)))(t)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)
