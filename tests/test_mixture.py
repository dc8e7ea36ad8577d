import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from lensjax.learning import mixture
from lensjax.learning.mixture import Mixture

K, D = 3, 4


def some(rng, *shape, dtype=np.float64):
    """A mixture as a network's outputs make it."""
    outputs = rng.normal(size=(*shape, mixture.outputs(K, D))).astype(dtype)
    return mixture.of_outputs(jnp.asarray(outputs), K, D)


def parts_of(one):
    """Weight, mean and covariance of each component, by numpy."""
    for k in range(K):
        whitening = np.asarray(one.whitening[k])
        precision = whitening.T @ whitening
        yield (
            float(one.log_weight[k]),
            np.asarray(one.mean[k]),
            np.linalg.inv(precision),
        )


@pytest.mark.usefixtures("x64")
def test_density_is_that_of_normal_distributions(rng):
    many = some(rng, 5)
    y = rng.normal(size=(5, D))
    found = mixture.log_density(many, jnp.asarray(y))
    for b in range(5):
        one = jax.tree.map(lambda a, b=b: a[b], many)
        each = [w + multivariate_normal(m, c).logpdf(y[b]) for w, m, c in parts_of(one)]
        np.testing.assert_allclose(found[b], logsumexp(each), rtol=1e-10)


def test_weights_sum_to_one_and_no_component_is_a_point(rng, dtype):
    huge = 1e4 * rng.normal(size=(50, mixture.outputs(K, D)))
    found = mixture.of_outputs(jnp.asarray(huge, dtype), K, D)
    np.testing.assert_allclose(np.exp(found.log_weight).sum(-1), 1, rtol=1e-5)
    scale = jnp.diagonal(found.whitening, axis1=-2, axis2=-1)
    assert scale.dtype == dtype
    assert (scale > 0).all()
    assert (scale <= 1.01 / mixture.LEAST_SIGMA).all()


@pytest.mark.usefixtures("x64")
def test_draws_have_the_mean_and_covariance_of_the_mixture(rng):
    one = some(rng)
    drawn = np.asarray(mixture.draw(jax.random.key(1), one, 400_000))
    mean = sum(np.exp(w) * m for w, m, _ in parts_of(one))
    second = sum(np.exp(w) * (c + np.outer(m, m)) for w, m, c in parts_of(one))
    covariance = second - np.outer(mean, mean)
    sigma = np.sqrt(np.diag(covariance))
    assert (abs(drawn.mean(0) - mean) < 5 * sigma / np.sqrt(len(drawn))).all()
    off = (np.cov(drawn.T) - covariance) / np.outer(sigma, sigma)
    assert abs(off).max() < 0.05
    np.testing.assert_allclose(mixture.mean(one), mean, rtol=1e-10)
    np.testing.assert_allclose(mixture.sigma(one), sigma, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_turned_mixture_has_the_density_of_what_is_turned(rng):
    many = some(rng, 6)
    turn, _ = np.linalg.qr(rng.normal(size=(D, D)))
    y = jnp.asarray(rng.normal(size=(6, D)))
    turned = mixture.turned(many, jnp.asarray(turn))
    np.testing.assert_allclose(
        mixture.log_density(turned, y @ turn.T), mixture.log_density(many, y), rtol=1e-9
    )


@pytest.mark.usefixtures("x64")
def test_the_density_of_pooled_ones_is_their_mean(rng):
    many = some(rng, 8, 2)
    y = jnp.asarray(rng.normal(size=(2, D)))
    pooled = mixture.pooled(many)
    assert pooled.log_weight.shape == (2, 8 * K)
    each = np.stack([
        mixture.log_density(jax.tree.map(lambda a, s=s: a[s], many), y)
        for s in range(8)
    ])  # fmt: skip
    wanted = logsumexp(each, axis=0) - np.log(8)
    np.testing.assert_allclose(mixture.log_density(pooled, y), wanted, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_slopes_and_curvatures_in_batches_are_finite_differences(rng):
    y = jnp.asarray(rng.normal(size=(3, D)))
    at = jnp.asarray(rng.normal(size=(3, mixture.outputs(K, D))))
    along = jnp.asarray(rng.normal(size=at.shape))

    def total(t):
        found = mixture.of_outputs(at + t * along, K, D)
        return mixture.log_density(found, y)

    h = 1e-4
    first = jax.jit(jax.jacfwd(total))(0.0)
    second = jax.jit(jax.jacfwd(jax.jacrev(total)))(0.0)
    up, here, down = total(h), total(0.0), total(-h)
    np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        second, (up - 2 * here + down) / h**2, rtol=1e-4, atol=1e-4
    )
    alone = [
        jax.grad(lambda a, k=k: mixture.log_density(
            mixture.of_outputs(a, K, D), y[k]))(at[k]) for k in range(3)
    ]  # fmt: skip
    together = jax.jit(jax.vmap(jax.grad(lambda a, y: mixture.log_density(
        mixture.of_outputs(a, K, D), y))))(at, y)  # fmt: skip
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-9)


def test_gradients_in_single_precision_alone_together_and_at_the_mean(rng):
    """vmap of vjp is a loop of them; at a component's own mean and far from all."""
    at = jnp.asarray(rng.normal(size=(6, mixture.outputs(K, D))), jnp.float32)
    means = jax.vmap(lambda a: mixture.of_outputs(a, K, D).mean[0])(at)
    y = means.at[3:].add(jnp.asarray([0.0, 5.0, 300.0])[:, None])
    weights = jnp.asarray(rng.normal(size=(4, 6)), jnp.float32)

    def density(a):
        return mixture.log_density(mixture.of_outputs(a, K, D), y)

    value, pull = jax.vjp(density, at)
    assert jnp.isfinite(value).all()
    together = jax.jit(jax.vmap(pull))(weights)[0]
    alone = jnp.stack([pull(w)[0] for w in weights])
    assert jnp.isfinite(together).all()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    double = [np.asarray(a, float) for a in (at, y, weights[0])]
    with jax.enable_x64(True):
        a, y, w = map(jnp.asarray, double)
        many = jax.vmap(
            jax.grad(lambda a, y: mixture.log_density(mixture.of_outputs(a, K, D), y))
        )
        exact = np.asarray(many(a, y) * w[:, None])
    scale = np.abs(exact).max(1, keepdims=True)
    assert (abs(np.asarray(together[0]) - exact) < 1e-3 * scale).all()


def test_a_number_of_outputs():
    # weight, mean, covariance of each
    assert mixture.outputs(4, 7) == 4 * (1 + 7 + 28)
    assert Mixture._fields == ("log_weight", "mean", "whitening", "log_det")
