"""How a network sees images: every option of the paper, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.commands.settings import train as settings
from lensjax.learning import scaling

IMAGES = np.random.default_rng(0).normal(3, 2, (2, 6, 6, 4)).astype(np.float32)


def scaled(name):
    return np.asarray(scaling.scaled(jnp.asarray(IMAGES), name))


def test_none_and_asinh():
    np.testing.assert_array_equal(scaled("none"), IMAGES)
    np.testing.assert_allclose(scaled("asinh"), np.arcsinh(IMAGES), rtol=1e-6)


def test_the_r_band_alone_is_ten_times_as_bright():
    for band, factor in enumerate((1, 10, 1, 1)):
        np.testing.assert_allclose(
            scaled("r_band")[..., band], factor * IMAGES[..., band]
        )
    with pytest.raises(ValueError, match="needs a survey with an r band"):
        scaling.scaled(jnp.asarray(IMAGES[..., :1]), "r_band")


@pytest.mark.parametrize(
    "name, axes", [("per_band", (1, 2)), ("standardize", (1, 2, 3))]
)
def test_mean_and_deviation(name, axes):
    np.testing.assert_allclose(scaled(name).mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(scaled(name).std(axes, ddof=1), 1, rtol=1e-5)


def test_the_largest_value():
    peak = IMAGES.max((1, 2))
    np.testing.assert_allclose(scaled("maximum").max((1, 2)), 1, rtol=1e-6)
    expected = IMAGES / peak[:, None, None]
    np.testing.assert_allclose(scaled("maximum"), expected, rtol=1e-5)
    expected = IMAGES / peak.mean(1)[:, None, None, None]
    np.testing.assert_allclose(scaled("mean_peak"), expected, rtol=1e-5)


@pytest.mark.parametrize("name", scaling.SCALINGS)
def test_one_system_does_not_see_another_and_nothing_is_no_nan(name):
    alone = np.asarray(scaling.scaled(jnp.asarray(IMAGES[1:]), name))
    np.testing.assert_array_equal(alone[0], scaled(name)[1])
    assert np.isfinite(scaling.scaled(jnp.zeros((1, 6, 6, 4)), name)).all()


def test_the_commands_know_them_all():
    assert settings.SCALINGS == scaling.SCALINGS
    with pytest.raises(ValueError, match="asinh"):
        scaling.scaled(jnp.asarray(IMAGES), "log")
