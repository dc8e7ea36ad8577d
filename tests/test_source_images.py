"""Images of a fitted source with errors: against images solved one by one."""

import jax
import numpy as np
import pytest

from lensjax import cosmology, images, inference, parameters
from lensjax.commands import config, fit_inputs
from lensjax.inference import source_images
from lensjax.inference.scene import Priors
from lensjax.inference.source_images import Known
from lensjax.lens import ray_shoot

MEAN = np.array(
    [0.03, -0.02, 0.15, -0.1, 1.1, 0.02, -0.03, 0.14, 0.05, 0.2, 1.2, 0.2, 0.1],
    np.float32,
)
DISTANCE = np.float32(cosmology.time_delay_distance(cosmology.PAPER, 0.5, 1.5))


@pytest.fixture(scope="module")
def posterior():
    """Draws about one lens, theta_E known to 1 %."""
    rng = np.random.default_rng(0)
    draws = np.repeat(MEAN[None], 64, 0)
    draws[:, 4] *= 1 + 0.01 * rng.normal(size=64).astype(np.float32)
    return draws, np.full(64, 1 / 64, np.float32)


def solved(vector, known):
    """Images and days of one draw, by the functions of the top level."""
    lens = parameters.to_lens(vector, inference.SPACE)
    at = vector[7], vector[8]
    if np.isfinite(known.seen_x):
        at = ray_shoot(lens, known.seen_x, known.seen_y)
    found = images.solve(lens, *at)
    return found, images.arrival_times(lens, found, *at, DISTANCE)


def test_medians_and_ranges_are_those_of_the_draws(posterior):
    known = Known(0.5, 1.5)
    found = source_images.predict(*posterior, known)
    each = jax.jit(lambda v: solved(v, known))
    rows = [each(v) for v in posterior[0]]
    number = int(rows[0][0].valid.sum())
    assert int(found.number) == number >= 2
    assert float(found.share) == pytest.approx(1, abs=1e-5)
    days = np.array([d[:number] for _, d in rows])
    np.testing.assert_allclose(
        found.delay[1, :number], np.median(days, 0), rtol=0.02, atol=1e-3
    )
    x = np.array([f.x[:number] for f, _ in rows])
    half = (np.percentile(x, 84, 0) - np.percentile(x, 16, 0)) / 2
    np.testing.assert_allclose(
        found.x[1, :number], np.median(x, 0), atol=0.1 * half.max()
    )
    ours = (found.x[2] - found.x[0])[:number] / 2
    np.testing.assert_allclose(ours, half, rtol=0.2, atol=1e-4)
    assert np.isnan(found.x[:, number:]).all() and found.delay[1, 0] == 0
    # those of an isothermal sphere are 2 theta_E beta: 1 % of theta_E is 1 % of them
    last = number - 1
    wide = (found.delay[2, last] - found.delay[0, last]) / 2 / found.delay[1, last]
    assert 0.006 < float(wide) < 0.016


def test_without_redshifts_there_are_images_and_no_delays(posterior):
    found = source_images.predict(*posterior, Known())
    assert int(found.number) >= 2 and np.isnan(found.delay).all()
    assert np.isfinite(found.x[:, : int(found.number)]).all()


def test_an_image_that_was_seen_stays_and_delays_count_from_it(posterior):
    truth, _ = jax.jit(lambda v: solved(v, Known()))(MEAN)
    known = Known(0.5, 1.5, float(truth.x[1]), float(truth.y[1]), 60_000.0)
    found = source_images.predict(*posterior, known)
    assert float(found.delay[1, 1]) == 0 and float(found.delay[1, 0]) < 0
    near = abs(np.asarray(found.x[:, 1]) - known.seen_x)
    assert near.max() < 1e-3  # by every draw


def test_tables_of_redshifts_are_read_and_refused_by_name(tmp_path):
    path = tmp_path / "z.csv"
    path.write_text("id,z_lens,z_source\na,0.4,1.2\nb,,1.0\n")
    found = fit_inputs.known(str(path), {"a"})
    assert found["a"].z_lens == 0.4 and np.isnan(found["a"].seen_x)
    assert np.isnan(found["b"].z_lens)
    path.write_text("id,z_lens,z_source,seen_x_arcsec,seen_y_arcsec,seen_mjd\n"
                    "a,0.4,1.2,0.5,-0.7,60000.5\n")  # fmt: skip
    assert fit_inputs.known(str(path), {"a"})["a"].seen_mjd == 60000.5
    for text, told in (
        ("id,z_lens\na,0.4\n", "z_source"),
        ("id,z_lens,z_source\na,1.4,1.2\n", "not behind"),
        ("id,z_lens,z_source\nc,0.4,1.2\n", "none of the cutouts' ids"),
        ("id,z_lens,z_source,seen_x_arcsec\na,0.4,1.2,1\n", "seen_y_arcsec"),
        ("id,z_lens,z_source,seen_mjd\na,0.4,1.2,6e4\n", "seen_x_arcsec"),
        ("id,z_lens,z_source\na,far,1.2\n", "no number"),
    ):
        path.write_text(text)
        with pytest.raises(config.ConfigError, match=f"redshifts: .*{told}"):
            fit_inputs.known(str(path), {"a"})


def test_a_start_of_any_table_gives_theta_E_its_prior(tmp_path):
    path = tmp_path / "start.csv"
    path.write_text("id,theta_E_arcsec,theta_E_arcsec_sigma\na,1.5,0.15\nb,2.0,\n")
    found = fit_inputs.started(str(path), {"a"}, Priors())
    assert found["a"].ln_theta_E == pytest.approx((np.log(1.5), 0.1))
    assert found["b"].ln_theta_E == pytest.approx((np.log(2.0), Priors().ln_theta_E[1]))
