"""Distances against astropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM as Astropy
from astropy.cosmology import FlatwCDM, LambdaCDM, Planck18, wCDM

from lensjax import cosmology
from lensjax.cosmology import FlatLambdaCDM


def test_reference_distances_of_the_papers_cosmology(dtype):
    cosmo = FlatLambdaCDM()
    z_l, z_s = jnp.asarray(0.5, dtype), jnp.asarray(2.0, dtype)
    zero = jnp.asarray(0.0, dtype)
    got = [
        cosmology.angular_diameter_distance(cosmo, zero, z_l),
        cosmology.angular_diameter_distance(cosmo, zero, z_s),
        cosmology.time_delay_distance(cosmo, z_l, z_s),
        cosmology.einstein_radius(cosmo, jnp.asarray(280.0, dtype), z_l, z_s),
    ]
    assert all(g.dtype == dtype for g in got)
    np.testing.assert_allclose(got, [1215.739, 1650.753, 2886.54, 1.42844], rtol=3e-6)


@pytest.mark.parametrize("Om0", [0.05, 0.3, 0.99])
def test_distances_equal_astropys(dtype, Om0):
    truth = Astropy(70, Om0, Tcmb0=0)
    z = np.array([1e-3, 0.1, 0.5, 1.5, 3.0, 7.0, 15.0])
    got = cosmology.comoving_distance(FlatLambdaCDM(70.0, Om0), jnp.asarray(z, dtype))
    limit = 3e-6 if dtype == jnp.float32 else 1e-9
    np.testing.assert_allclose(got, truth.comoving_distance(z).value, rtol=limit)
    got = cosmology.angular_diameter_distance(
        FlatLambdaCDM(70.0, Om0), jnp.asarray(0.5, dtype), jnp.asarray(z, dtype)
    )
    dc = truth.comoving_distance(np.append(z, 0.5)).value
    expected = ((dc[:-1] - dc[-1]) / (1 + z))[z > 0.5]
    np.testing.assert_allclose(got[z > 0.5], expected, rtol=limit)


def test_time_delay_distance_of_the_delays_reference_system(x64):
    d_dt = cosmology.time_delay_distance(FlatLambdaCDM(70.0, 0.3), 0.5, 1.5)
    assert np.isclose(d_dt, 3329.66536, rtol=1e-8)
    days = cosmology.MPC_IN_LIGHT_DAYS * cosmology.ARCSEC**2 * d_dt
    assert np.isclose(days, 93.2323050, rtol=1e-8)


def test_astropy_objects_are_taken_at_the_door():
    astropy = Astropy(72 * u.km / u.s / u.Mpc, 0.32, Tcmb0=0)
    assert cosmology.from_astropy(astropy) == FlatLambdaCDM(72.0, 0.32)
    assert cosmology.from_astropy(FlatLambdaCDM(50.0, 0.2)) == FlatLambdaCDM(50.0, 0.2)
    for function in (
        lambda c: cosmology.angular_diameter_distance(c, 0.0, 0.5),
        lambda c: cosmology.time_delay_distance(c, 0.5, 2.0),
        lambda c: cosmology.einstein_radius(c, 280.0, 0.5, 2.0),
    ):
        assert function(astropy) == function(FlatLambdaCDM())
    metres = cosmology.einstein_radius(FlatLambdaCDM(), 2.8e5 * u.m / u.s, 0.5, 2.0)
    assert np.isclose(metres, 1.42844, rtol=1e-5)


def test_a_cosmology_that_would_differ_is_refused():
    with pytest.raises(ValueError, match="radiation.*Tcmb0=0"):
        cosmology.angular_diameter_distance(Planck18, 0.0, 0.5)
    with pytest.raises(ValueError, match="not a flat LCDM"):
        cosmology.from_astropy(wCDM(70, 0.3, 0.7, w0=-0.9))


def test_redshifts_may_be_integers_or_arrays():
    cosmo = FlatLambdaCDM()
    assert cosmology.angular_diameter_distance(cosmo, 0, 2) > 0
    z = jnp.array([1, 2])
    assert cosmology.time_delay_distance(cosmo, 0.5, z).shape == (2,)
    z = jnp.linspace(0.1, 3, 6).reshape(2, 3)
    assert cosmology.comoving_distance(cosmo, z).shape == (2, 3)
    assert cosmology.einstein_radius(cosmo, 250, 0.5, z).shape == (2, 3)


def test_edges_are_as_documented():
    cosmo = FlatLambdaCDM()
    assert cosmology.angular_diameter_distance(cosmo, 0.0, 0.0) == 0
    assert cosmology.angular_diameter_distance(cosmo, 1.0, 0.5) < 0
    assert np.isinf(cosmology.time_delay_distance(cosmo, 0.5, 0.5))
    assert cosmology.einstein_radius(cosmo, 250.0, 1.0, 0.5) == 0


def test_distances_have_gradients(x64):
    def d(p):
        return cosmology.time_delay_distance(FlatLambdaCDM(p[0], p[1]), p[2], p[3])

    p = np.array([72.0, 0.32, 0.5, 2.0])
    numeric = [(d(p + h) - d(p - h)) / 2e-5 for h in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(jax.grad(d)(jnp.asarray(p)), numeric, rtol=1e-6)


def test_jit_and_vmap_change_nothing(dtype):
    cosmo = FlatLambdaCDM()
    z = jnp.asarray([0.2, 0.5], dtype)
    compiled = jax.jit(jax.vmap(cosmology.time_delay_distance, (None, 0, 0)))
    eager = cosmology.time_delay_distance(cosmo, z, z + 1)
    np.testing.assert_allclose(compiled(cosmo, z, z + 1), eager, rtol=1e-5)


@pytest.mark.parametrize("om", [0.24, 0.3, 0.32, 0.37])
def test_flat_to_rounding_is_flat(om):
    """0.32 + 0.68 is one to the last digit only: astropy has Ok0 = 1e-17."""
    for cosmo in (LambdaCDM(72, om, round(1 - om, 2)), FlatwCDM(72, om, w0=-1.0)):
        ours = cosmology.from_astropy(cosmo)
        found = cosmology.comoving_distance(ours, 2.0)
        np.testing.assert_allclose(found, cosmo.comoving_distance(2.0).value, rtol=1e-6)
    for other in (LambdaCDM(72, om, 0.99 - om), FlatwCDM(72, om, w0=-0.9)):
        with pytest.raises(ValueError, match="not a flat LCDM"):
            cosmology.from_astropy(other)
