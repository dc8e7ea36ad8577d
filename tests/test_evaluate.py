"""Figures of merit by hand, and baselines that cannot see what they must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import systems_of

from lensjax import parameters
from lensjax.catalogue import Lenses
from lensjax.evaluation import metrics
from lensjax.evaluation.metrics import LightOnly
from lensjax.learning import train

GALAXIES = 400


@pytest.fixture
def lenses(rng):
    n = GALAXIES
    light = rng.uniform(-0.2, 0.2, (4, n)).astype(np.float32)
    mag = np.sort(rng.uniform(17, 22, (n, 4)), 1)[:, ::-1].astype(np.float32)
    empty = jnp.zeros((n, 1))
    mag = jnp.asarray(mag)
    return Lenses(empty, empty, empty, empty, mag, empty, empty, *light, empty)


def quadratic(mag):
    """A theta_E that i and the colours fix."""
    i, g_r, r_i = mag[:, 2] - 20, mag[:, 0] - mag[:, 1], mag[:, 1] - mag[:, 2]
    return 1.5 - 0.3 * i + 0.1 * i**2 + 0.2 * g_r * r_i - 0.1 * i * g_r


def with_theta_E(systems, lenses):
    theta_E = quadratic(np.asarray(lenses.mag, float))[systems.lens_index]
    return systems._replace(
        sie=systems.sie._replace(theta_E=jnp.asarray(theta_E, jnp.float32))
    )


def test_merits_are_those_of_numpy(rng):
    truth = rng.normal(size=(200, 5))
    predicted = truth + 0.3 * rng.normal(size=(200, 5)) + 0.1
    merits = metrics.merits(truth, predicted)
    assert tuple(merits) == parameters.names()
    for k, merit in enumerate(merits.values()):
        d = predicted[:, k] - truth[:, k]
        assert merit.bias == pytest.approx(np.median(d))
        width = np.percentile(d, 84) - np.percentile(d, 16)
        assert merit.half_width == pytest.approx(width / 2)
        assert merit.rms == pytest.approx(np.sqrt(np.mean(d**2)))
        share = (d**2).sum() / ((truth[:, k] - truth[:, k].mean()) ** 2).sum()
        assert merit.r2 == pytest.approx(1 - share)


def test_merits_of_no_numbers_are_nan_without_a_warning():
    truth = np.random.default_rng(0).normal(size=(10, 5))
    for bad in (np.nan, np.inf, 1e300):
        predicted = truth.copy()
        predicted[3, 4] = bad
        merits = metrics.merits(truth, predicted)
        assert np.isfinite(merits["x"]).all()
        assert not merits["theta_E"].r2 > 0
    assert np.isnan(metrics.merits(truth[:1], truth[:1])["x"].r2)


def test_light_only_recovers_a_quadratic_relation(lenses):
    systems = with_theta_E(systems_of(2000, GALAXIES), lenses)
    some = jax.tree.map(lambda a: np.asarray(a)[:1500], systems)
    rest = jax.tree.map(lambda a: np.asarray(a)[1500:], systems)
    got = LightOnly.fit(some, lenses).predict(rest, lenses)
    np.testing.assert_allclose(got[:, 4], rest.sie.theta_E, atol=0.03)
    merits = metrics.merits(np.asarray(train.targets(rest)), got)
    assert merits["theta_E"].r2 > 0.99


def test_light_only_answers_with_the_light_as_the_mock_shows_it(lenses):
    systems = systems_of(100, GALAXIES)
    got = LightOnly.fit(systems, lenses).predict(systems, lenses)
    for k, name in enumerate(("light_x", "light_y", "light_ex", "light_ey")):
        np.testing.assert_array_equal(got[:, k], getattr(systems, name))


def test_baselines_do_not_look_at_the_held_out_truth(lenses):
    systems = with_theta_E(systems_of(300, GALAXIES), lenses)
    rows, held_out = np.arange(200), np.arange(200, 300)

    def answers(systems):
        return metrics.baselines(systems, lenses, [rows], [held_out])

    first = answers(systems)
    changed = np.asarray(systems.sie.theta_E).copy()
    changed[200:] += 1
    shifted = systems._replace(sie=systems.sie._replace(theta_E=jnp.asarray(changed)))
    for who, answer in answers(shifted).items():
        assert answer.shape == (100, 5)
        np.testing.assert_array_equal(answer, first[who])


def test_the_prior_mean_explains_nothing(lenses):
    systems = systems_of(300, GALAXIES)
    truth = np.asarray(train.targets(systems))
    folds = [np.arange(0, 150), np.arange(150, 300)]
    answer = metrics.baselines(systems, lenses, folds, folds[::-1])["prior mean"]
    merits = metrics.merits(truth[np.concatenate(folds[::-1])], answer)
    for merit in merits.values():
        assert -0.2 < merit.r2 <= 0


def test_merits_by_hand():
    """The normal distribution: half width sigma, 0.27 % beyond three of them."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200_000, 5))
    wrong = 0.5 * rng.normal(size=truth.shape) + 0.1
    wrong[:1000, 4] += 20
    merits = metrics.merits(truth, truth + wrong)
    assert merits["x"].bias == pytest.approx(0.1, abs=0.005)
    assert merits["x"].half_width == pytest.approx(0.5, rel=0.01)
    assert merits["x"].rms == pytest.approx(np.hypot(0.5, 0.1), rel=0.01)
    assert merits["x"].r2 == pytest.approx(1 - 0.26, abs=0.01)
    assert merits["x"].outliers == pytest.approx(0.0027, rel=0.2)
    assert merits["theta_E"].outliers == pytest.approx(0.0077, rel=0.1)


def test_the_mean_curve_is_a_number_where_all_folds_have_one():
    records = [
        {"fold": k, "epoch": e, "val_loss": loss}
        for e, losses in enumerate([(1.0, 3.0), (2.0, None), (0.5, 0.7)], 1)
        for k, loss in enumerate(losses)
    ]
    np.testing.assert_allclose(metrics.mean_curve(records), [2.0, np.nan, 0.6])
    assert len(metrics.mean_curve([])) == 0


def test_light_only_of_a_handful_of_galaxies_does_not_blow_up(lenses, rng):
    """Five galaxies cannot fix fifteen coefficients: the sixth gets a sane answer."""
    systems = with_theta_E(systems_of(600, 6), lenses)
    others = systems.lens_index != 5
    few = jax.tree.map(lambda a: np.asarray(a)[others], systems)
    rest = jax.tree.map(lambda a: np.asarray(a)[~others], systems)
    got = LightOnly.fit(few, lenses).predict(rest, lenses)[:, 4]
    seen = np.asarray(few.sie.theta_E)
    assert np.abs(got - seen.mean()).max() < 2 * np.ptp(seen)
