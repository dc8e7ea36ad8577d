"""Where and when the next images appear, by a model of the lens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import cosmology, lens, next_images, sie
from lensjax.lens import Lens

D_DT = 3329.66536  # [Mpc], of the reference values
BETA = 0.05, 0.08
compare = jax.jit(next_images.compare)


def true_lens():
    """System A of the reference values, in the precision of the test."""
    return lens.without_shear(sie.from_axis_ratio(1.5, 0.7, np.pi / 6))


def round_lens(theta_E):
    return lens.without_shear(sie.from_axis_ratio(theta_E, 1.0, 0.0))


def test_the_true_model_finds_the_reference_images_and_delays(x64):
    got = compare(true_lens(), true_lens(), *BETA, D_DT)
    assert got.n_true == got.n_predicted == 4
    x = [1.1244911744, 1.3539051195, -1.0520471895]
    y = [-1.0192399643, 0.5353985027, -0.7473317651]
    days = [12.42280372, 20.98245590, 42.16495554]
    np.testing.assert_allclose(got[:2], (-0.4607052423, 1.5354388902), rtol=1e-6)
    for found in (got[4:7], got[7:]):
        for value, expected in zip(found, (x, y, days), strict=True):
            np.testing.assert_allclose(value[:3], expected, rtol=3e-6)
            assert jnp.isnan(value[3:]).all()


def test_a_round_model_of_another_size_by_hand(x64):
    """One image at beta + theta_E: the other one moves by twice the error."""
    truth, model, beta = 1.2, 1.3, 0.4
    known = beta + truth
    got = compare(round_lens(truth), round_lens(model), beta, 0.0, D_DT)
    assert got.n_true == got.n_predicted == 2
    np.testing.assert_allclose(got.x[0], beta - truth, rtol=1e-6)
    np.testing.assert_allclose(got.predicted_x[0], known - 2 * model, rtol=1e-6)
    np.testing.assert_allclose(got.predicted_y[0], 0, atol=1e-9)
    # delay D_dt / c times 2 theta_E beta
    scale = D_DT * cosmology.MPC_IN_LIGHT_DAYS * cosmology.ARCSEC**2
    np.testing.assert_allclose(got.delay[0], scale * 2 * truth * beta, rtol=1e-6)
    source = known - model
    expected = scale * 2 * model * source
    np.testing.assert_allclose(got.predicted_delay[0], expected, rtol=1e-6)


def test_an_image_that_the_model_has_before_the_known_one_comes_with_a_negative_delay():
    """So large a model puts the source on the other side."""
    got = compare(round_lens(1.0), round_lens(1.5), 0.3, 0.0, D_DT)
    assert got.n_predicted == 2 and got.delay[0] > 0
    np.testing.assert_allclose(got.predicted_x[0], 1.3 - 3.0, rtol=1e-5)
    assert got.predicted_delay[0] < 0


def test_predicted_images_have_the_source_of_the_known_one(x64):
    model = lens.without_shear(sie.from_axis_ratio(1.4, 0.6, 0.7, 0.03, -0.02))
    got = compare(true_lens(), model, *BETA, D_DT)
    source = np.array(lens.ray_shoot(model, got.first_x, got.first_y))
    seen = np.array(lens.ray_shoot(model, got.predicted_x, got.predicted_y))
    others = int(got.n_predicted) - 1
    assert others >= 1 and jnp.isfinite(got.predicted_x).sum() == others
    expected = np.tile(source[:, None], others)
    np.testing.assert_allclose(seen[:, :others], expected, atol=1e-9)
    assert (jnp.diff(got.predicted_delay[:others]) >= 0).all()


@pytest.mark.parametrize("wrong", [{"ex": 0.8, "ey": 0.7}, {"theta_E": -0.1}])
def test_a_model_that_is_no_lens_predicts_nothing(wrong):
    model = Lens(
        true_lens().sie._replace(**{k: jnp.float32(v) for k, v in wrong.items()})
    )
    got = compare(true_lens(), model, *BETA, D_DT)
    assert got.n_true == 4 and got.n_predicted == 0
    assert jnp.isnan(got.predicted_x).all() and jnp.isnan(got.predicted_delay).all()
    assert jnp.isfinite(got.x[:3]).all()
