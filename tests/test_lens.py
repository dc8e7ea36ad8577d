"""An ellipsoid in shear: its parts, added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import images, shear, sie
from lensjax import lens as lens_module
from lensjax.lens import Lens
from lensjax.shear import Shear


@pytest.fixture
def lens(dtype):
    e = sie.from_axis_ratio(1.3, 0.7, 0.6, 0.05, -0.02)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), Lens(e, Shear(0.05, -0.03)))


@pytest.fixture
def position(dtype):
    return jnp.asarray(0.8, dtype), jnp.asarray(-0.9, dtype)


def test_deflections_add(lens, position):
    parts = [sie.deflect(lens.sie, *position), shear.deflect(lens.shear, *position)]
    np.testing.assert_array_equal(
        lens_module.deflect(lens, *position), np.sum(parts, axis=0)
    )


def test_a_lens_without_shear_is_its_ellipsoid(lens, position):
    alone = Lens(lens.sie)
    for name in ("deflect", "convergence", "potential"):
        np.testing.assert_allclose(
            getattr(lens_module, name)(alone, *position),
            getattr(sie, name)(lens.sie, *position),
            rtol=1e-6,
        )
    np.testing.assert_allclose(
        lens_module.magnification(alone, *position),
        sie.magnification(lens.sie, *position),
        rtol=1e-4,
    )


def test_rays_end_at_position_less_deflection(lens, position):
    alpha = lens_module.deflect(lens, *position)
    beta = lens_module.ray_shoot(lens, *position)
    np.testing.assert_allclose(beta, np.subtract(position, alpha), rtol=1e-5)


def test_deflection_is_the_gradient_of_the_potential(dtype, lens, position):
    slope = jax.jit(jax.grad(lens_module.potential, argnums=(1, 2)))
    gradient = slope(lens, *position, 0.0)
    limit = 1e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(
        gradient, jax.jit(lens_module.deflect)(lens, *position, 0.0), atol=limit
    )


def test_images_are_stationary_points_of_the_fermat_potential(dtype, lens, position):
    beta = jax.jit(lens_module.ray_shoot)(lens, *position, 0.0)
    slope = jax.jit(jax.grad(lens_module.fermat_potential, argnums=(1, 2)))
    gradient = slope(lens, *position, *beta, 0.0)
    np.testing.assert_allclose(gradient, 0, atol=20 * jnp.finfo(dtype).eps)


def test_magnification_is_one_over_the_area_of_a_traced_pixel(dtype, lens, position):
    (xx, xy), (yx, yy) = (
        jax.jit(
            jax.jacfwd(lambda x, y, k=k: lens_module.ray_shoot(lens, x, y)[k], (0, 1))
        )(*position)
        for k in (0, 1)
    )
    limit = 1e-4 if dtype == jnp.float32 else 1e-6
    np.testing.assert_allclose(
        jax.jit(lens_module.magnification)(lens, *position),
        1 / (xx * yy - xy * yx),
        rtol=limit,
    )
    np.testing.assert_allclose(
        jax.jit(lens_module.jacobian)(lens, *position), (xx, xy, yy), atol=limit
    )


def test_a_scalar_lens_takes_an_image_of_positions(lens, dtype):
    x = jnp.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4)
    for function in (lens_module.deflect, lens_module.ray_shoot, lens_module.jacobian):
        assert all(a.shape == (3, 4) for a in function(lens, x, x))
    for function in (lens_module.potential, lens_module.magnification):
        assert function(lens, x, x).dtype == dtype


def test_python_numbers_are_enough():
    lens = Lens(sie.SIE(1.0, 0.1, 0, 0, 0.1), Shear(0.02, 0))
    beta = lens_module.ray_shoot(lens, 0.5, 1)
    assert np.isfinite(beta).all()
    assert np.isfinite(lens_module.magnification(lens, 0.5, 1))


def test_many_lenses_without_shear_are_solved_side_by_side():
    many = lens_module.without_shear(sie.from_axis_ratio(1, jnp.array([0.5, 0.6]), 0))
    count = jax.vmap(lambda lens: images.solve(lens, 0.02, 0.01).valid.sum())
    assert jax.jit(count)(many).tolist() == [4, 4]
    slope = jax.grad(lambda lens: sie.deflect(lens, 0.7, 0.4)[0])
    np.testing.assert_allclose(
        slope(sie.from_axis_ratio(1, 1, 0)).theta_E, 0.868243, rtol=1e-5
    )
