"""Vectors of parameters: their order, and the map onto all of R^n."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import parameters
from lensjax.lens import Lens
from lensjax.parameters import SOURCE_X, SOURCE_Y, WITH_SHEAR, WITHOUT_SHEAR
from lensjax.shear import Shear
from lensjax.sie import SIE

LENS = Lens(SIE(1.3, 0.1, -0.2, 0.03, -0.04), Shear(0.02, 0.01))


def test_the_papers_five_come_first_and_in_its_order():
    assert parameters.names() == ("x", "y", "ex", "ey", "theta_E")
    assert parameters.names(WITH_SHEAR)[:5] == parameters.names()
    assert parameters.columns()[-1] == "theta_E_arcsec"
    every = [*WITH_SHEAR, SOURCE_X, SOURCE_Y]
    assert len({p.name for p in every}) == len({p.column for p in every}) == 9
    # a column ends in its unit
    assert all(p.column.endswith("_arcsec") == (p.unit == "arcsec") for p in every)


def test_a_lens_and_its_vector_are_the_same(dtype):
    lens = jax.tree.map(lambda a: jnp.asarray(a, dtype), LENS)
    vector = parameters.to_vector(lens, WITH_SHEAR)
    expected = [0.03, -0.04, 0.1, -0.2, 1.3, 0.02, 0.01]
    np.testing.assert_array_equal(vector, np.array(expected, dtype))
    assert vector.dtype == dtype
    again = parameters.to_lens(vector)
    assert all(
        a == b for a, b in zip(*map(jax.tree.leaves, (lens, again)), strict=True)
    )
    five = parameters.to_vector(lens)
    bare = parameters.to_lens(five)
    assert bare.sie == again.sie and bare.shear == (0, 0)
    np.testing.assert_array_equal(parameters.to_vector(lens.sie), five)


def test_many_lenses_are_rows_and_fields_are_arrays_of_their_own():
    rows = jnp.tile(parameters.to_vector(LENS, WITH_SHEAR), (4, 3, 1))
    lens = parameters.to_lens(rows[..., :5])
    assert lens.sie.theta_E.shape == (4, 3)
    # one buffer in two fields could not be donated
    jax.jit(lambda lens: lens, donate_argnums=0)(lens)


def test_a_fit_appends_parameters_of_its_own():
    space = (*WITH_SHEAR, SOURCE_X, SOURCE_Y)
    vector = jnp.arange(9.0) / 20
    lens = parameters.to_lens(vector, space)
    assert lens.shear.g2 == vector[6]
    u = parameters.unconstrained(vector, space)
    np.testing.assert_allclose(parameters.constrained(u, space), vector, rtol=1e-6)
    np.testing.assert_array_equal(u[7:], vector[7:])


def test_what_is_no_vector_of_a_lens_is_refused():
    with pytest.raises(ValueError, match="6 numbers is no lens: give 5 .x, y, ex"):
        parameters.to_lens(jnp.ones(6))
    with pytest.raises(ValueError, match="beta_x|source_x is no parameter of a lens"):
        parameters.to_vector(LENS, (*WITHOUT_SHEAR, SOURCE_X))
    with pytest.raises(ValueError, match="in pairs"):
        parameters.constrained(jnp.ones(4), WITHOUT_SHEAR[:2] + WITHOUT_SHEAR[3:])


@pytest.mark.parametrize("space", [WITHOUT_SHEAR, WITH_SHEAR])
def test_unconstrained_numbers_reach_all_lenses_and_no_others(dtype, rng, space):
    u = jnp.asarray(3 * rng.standard_normal((50, len(space))), dtype)
    vector = parameters.constrained(u)
    lens = parameters.to_lens(vector)
    assert (lens.sie.theta_E > 0).all()
    assert (jnp.hypot(lens.sie.ex, lens.sie.ey) < 1).all()
    assert (jnp.hypot(lens.shear.g1, lens.shear.g2) < 1).all()
    rtol = 1e-10 if dtype == jnp.float64 else 3e-4
    np.testing.assert_allclose(parameters.unconstrained(vector), u, rtol=rtol)


def test_the_jacobian_is_that_of_finite_differences(x64, rng):
    u = np.concatenate([rng.standard_normal((6, 7)), np.zeros((1, 7))])
    h = 1e-6
    for row, logarithm in zip(u, parameters.log_jacobian(u), strict=True):
        steps = h * np.eye(7)
        ends = parameters.constrained(row + steps), parameters.constrained(row - steps)
        numeric = np.asarray((ends[0] - ends[1]) / (2 * h))
        sign, expected = np.linalg.slogdet(numeric)
        assert sign == 1
        np.testing.assert_allclose(logarithm, expected, atol=1e-8)
        analytic = jax.jacfwd(parameters.constrained)(jnp.asarray(row))
        np.testing.assert_allclose(analytic, numeric.T, atol=1e-8)


def test_batches_of_cotangents_and_second_derivatives(dtype, rng):
    u = jnp.asarray(rng.standard_normal((64, 7)), dtype).at[0].set(0)
    many = jnp.asarray(rng.standard_normal((5, 64, 7)), dtype)

    def back(w):
        return jax.vjp(parameters.constrained, u)[1](w)[0]

    together = jax.jit(jax.vmap(back))(many)
    rtol = 1e-12 if dtype == jnp.float64 else 1e-5
    one = np.stack([back(w) for w in many])
    np.testing.assert_allclose(together, one, rtol=rtol, atol=rtol)

    def density(row):
        return parameters.constrained(row) @ many[0, 0] + parameters.log_jacobian(row)

    both = jax.jit(jax.vmap(lambda r: (jax.grad(density)(r), jax.hessian(density)(r))))
    _, curvature = both(u[:4])
    h = 1e-5 if dtype == jnp.float64 else 2e-2
    steps = h * jnp.eye(7, dtype=dtype)[None]
    slope = jax.jit(jax.vmap(jax.vmap(jax.grad(density))))
    rows = u[:4, None]
    differences = (slope(rows + steps) - slope(rows - steps)) / (2 * h)
    atol = 1e-8 if dtype == jnp.float64 else 2e-3
    np.testing.assert_allclose(curvature, differences, atol=atol)
