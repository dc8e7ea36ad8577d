"""External shear."""

import jax
import jax.numpy as jnp
import numpy as np

from lensjax import shear
from lensjax.shear import Shear


def test_shear_deflects_by_the_gradient_of_its_potential(dtype):
    g = Shear(jnp.asarray(0.1, dtype), jnp.asarray(-0.05, dtype))
    x, y = jnp.asarray(0.7, dtype), jnp.asarray(-1.2, dtype)
    alpha = shear.deflect(g, x, y)
    assert all(a.dtype == dtype for a in alpha)
    np.testing.assert_allclose(alpha, (0.1 * 0.7 + 0.06, -0.05 * 0.7 + 0.12), rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(shear.potential, argnums=(1, 2))(g, x, y), alpha, rtol=1e-5
    )


def test_positive_g1_stretches_images_along_x(dtype):
    # beta = theta - alpha: a circle of sources becomes an ellipse along x
    ax, _ = shear.deflect(Shear(0.1, 0.0), jnp.ones((), dtype), jnp.zeros((), dtype))
    _, ay = shear.deflect(Shear(0.1, 0.0), jnp.zeros((), dtype), jnp.ones((), dtype))
    assert 1 / (1 - ax) > 1 > 1 / (1 - ay)


def test_shear_takes_images_and_python_numbers():
    x = jnp.zeros((3, 4)) + 1.0
    for g in (Shear(0, 0), Shear(0.1, 0), Shear(np.float32(0.1), jnp.float32(0.2))):
        assert shear.deflect(g, x, x)[0].shape == (3, 4)
        assert shear.potential(g, x, x).dtype == jnp.float32
