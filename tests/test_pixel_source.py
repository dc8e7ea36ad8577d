"""Sources on pixels: the algebra against numpy, a mock's source against the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_inference import SETTINGS, TRUTH, single

from lensjax import inference, light, parameters, render
from lensjax.inference import pixel_source
from lensjax.inference.problem import framed, pixels_of, prepared
from lensjax.lens import ray_shoot

BRIGHT = 8.0


def test_the_prior_is_that_of_differences_and_of_edges_that_end_at_zero():
    side, rng = 5, np.random.default_rng(0)
    s = rng.normal(size=(side, side))
    framed_ = np.pad(s, 1)
    total = (np.diff(framed_, axis=0)[:, 1:-1] ** 2).sum()
    total += (np.diff(framed_, axis=1)[1:-1] ** 2).sum()
    prior = pixel_source.differences(side)
    assert s.ravel() @ prior @ s.ravel() == pytest.approx(total, rel=1e-12)


def test_the_strength_is_that_of_the_largest_evidence_of_a_normal():
    """The evidence is the density of the data, by scipy, for any strength."""
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(1)
    side, number = 4, 60
    prior = pixel_source.differences(side)
    truth = rng.multivariate_normal(np.zeros(side**2), np.linalg.inv(prior) / 0.05)
    rows = rng.normal(size=(side**2, number))
    data = truth @ rows + rng.normal(size=number)
    own = rows @ rows.T
    found, covariance, strength, log_evidence = pixel_source.most_probable(
        own, rows @ data, prior
    )

    def log_density(strength):
        spread = rows.T @ np.linalg.inv(strength * prior) @ rows + np.eye(number)
        return multivariate_normal(np.zeros(number), spread).logpdf(data)

    null = multivariate_normal(np.zeros(number), np.eye(number)).logpdf(data)
    assert log_evidence == pytest.approx(log_density(strength) - null, rel=1e-6)
    around = [log_density(strength * f) for f in (0.8, 1, 1.25)]
    assert max(around) == around[1] and 0.005 < strength < 0.5
    stacked = np.vstack([rows.T, np.linalg.cholesky(strength * prior).T])
    expected, *_ = np.linalg.lstsq(stacked, np.pad(data, (0, side**2)), rcond=None)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert np.mean(abs(found - truth) < 2 * np.sqrt(np.diag(covariance))) > 0.8


@pytest.fixture(scope="module")
def found():
    """A bright mock with its true mass, and its source on pixels."""
    data = single(True, 0, BRIGHT)
    source = [0.14, 0.05, 0.2, 1.2, 0.2, 0.1]
    vector = [*parameters.to_vector(TRUTH, parameters.WITH_SHEAR), *source]
    modes = np.array([vector], np.float32)
    small = framed(data, SETTINGS)
    pixels = pixels_of(data, SETTINGS)
    with jax.enable_x64(False):
        planes = [jnp.asarray(a) for a in small[:4]]
        true_lens, sersic = inference.scene.parts(jnp.asarray(modes[0]), 2)
        sersic = sersic._replace(flux=BRIGHT * jnp.asarray([40.0, 25.0]))
        arcs = render.lensed(sersic, true_lens, planes[2], pixels)
        lens_light, _ = jax.jit(
            lambda a, b, c, d: prepared(
                small._replace(image=a, variance=b, psf=c, mask=d), SETTINGS.mode, arcs
            )
        )(*planes)
        fit = inference.Fit(*[None] * len(inference.Fit._fields))
        fit = fit._replace(modes=modes, light=lens_light)
        return data, fit, pixel_source.reconstruct(data, fit, SETTINGS, side=21)


def test_a_sources_pixels_are_the_mocks_within_their_errors(found):
    data, fit, source = found
    assert source.image.shape == source.error.shape == (21, 21)
    place = (np.arange(21) - 10) * source.pixel_scale
    x, y = np.meshgrid(place, place)
    sersic = light.Sersic(np.array([40.0 * BRIGHT]), 0.2, 1.2, 0.2, 0.1, 0.0, 0.0)
    truth = np.asarray(light.brightness(sersic, x, y))[..., 0] * source.pixel_scale**2
    near = np.hypot(x, y) < 0.5
    pull = ((source.image - truth) / source.error)[near]
    assert abs(pull).max() < 6 and np.sqrt((pull**2).mean()) < 2
    # smooth, so less peaked than a Sersic; its light is all there
    assert source.image[near].sum() == pytest.approx(truth[near].sum(), rel=0.1)
    assert source.image.max() > 5 * source.error.max()


def test_residuals_are_noise_and_the_stamp_renders_as_the_arcs(found):
    data, fit, source = found
    left = source.residual[np.isfinite(source.residual)]
    assert 0.8 < left.std() < 1.1
    pixels = pixels_of(framed(data, SETTINGS), SETTINGS)
    x, y = render.rays(pixels)
    bx, by = ray_shoot(TRUTH, x, y)
    seen = render.shine(source.stamp, bx - source.x, by - source.y, pixels)
    kernel = jnp.asarray(framed(data, SETTINGS).psf[..., :1])
    image = np.asarray(render.record(seen, kernel, pixels))[..., 0]
    counts = np.isfinite(source.arcs)
    np.testing.assert_allclose(source.arcs[counts], image[counts], atol=1e-3)
    assert source.pixel_scale * 21 / 2 == pytest.approx(4 * 0.2, rel=1e-6)


def test_a_wrong_mass_has_less_evidence(found):
    data, fit, source = found
    wrong = fit.modes.copy()
    wrong[0, list(inference.NAMES).index("theta_E")] *= 1.1
    other = pixel_source.reconstruct(data, fit._replace(modes=wrong), SETTINGS, side=21)
    assert other.log_evidence < source.log_evidence - 10


@pytest.mark.parametrize(
    "wrong, text", [({"side": 2}, "side"), ({"band": 2}, "band 2 of 2")]
)
def test_what_cannot_be_asked_for(found, wrong, text):
    data, fit, _ = found
    with pytest.raises(ValueError, match=text):
        pixel_source.reconstruct(data, fit, SETTINGS, **wrong)
