"""Figures of merit by hand, and baselines that cannot see what they must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import systems_of

from lensjax import evaluate, train
from lensjax.catalogue import Lenses
from lensjax.evaluate import LightOnly
from lensjax.train import TARGETS

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
    merits = evaluate.merits(truth, predicted)
    assert tuple(merits) == TARGETS
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
        merits = evaluate.merits(truth, predicted)
        assert np.isfinite(merits["x"]).all()
        assert not merits["theta_E"].r2 > 0
    assert np.isnan(evaluate.merits(truth[:1], truth[:1])["x"].r2)


def test_light_only_recovers_a_quadratic_relation(lenses):
    systems = with_theta_E(systems_of(2000, GALAXIES), lenses)
    some = jax.tree.map(lambda a: np.asarray(a)[:1500], systems)
    rest = jax.tree.map(lambda a: np.asarray(a)[1500:], systems)
    got = LightOnly.fit(some, lenses).predict(rest, lenses)
    np.testing.assert_allclose(got[:, 4], rest.sie.theta_E, atol=0.03)
    merits = evaluate.merits(np.asarray(train.targets(rest)), got)
    assert merits["theta_E"].r2 > 0.99


def test_light_only_answers_with_the_light_as_the_mock_shows_it(lenses):
    systems = systems_of(100, GALAXIES)
    got = LightOnly.fit(systems, lenses).predict(systems, lenses)
    for k, name in enumerate(("light_x", "light_y", "light_ex", "light_ey")):
        np.testing.assert_array_equal(got[:, k], getattr(systems, name))


def test_baselines_do_not_look_at_the_held_out_truth(lenses):
    systems = with_theta_E(systems_of(300, GALAXIES), lenses)
    truth = np.asarray(train.targets(systems))
    rows, held_out = np.arange(200), np.arange(200, 300)

    def answers(systems, truth):
        answer = evaluate.summary(
            systems, lenses, [rows], [held_out], [truth[held_out]], truth
        )
        # bias is linear in the answers: medians of answer minus truth
        fitted = LightOnly.fit(evaluate._take(systems, rows), lenses)
        return answer, fitted.coefficients

    first, one = answers(systems, truth)
    changed = np.asarray(systems.sie.theta_E).copy()
    changed[200:] += 1
    shifted = systems._replace(sie=systems.sie._replace(theta_E=jnp.asarray(changed)))
    second, two = answers(shifted, np.asarray(train.targets(shifted)))
    np.testing.assert_array_equal(one, two)
    for who in ("light only", "prior mean"):
        moved = second[who]["theta_E"].bias - first[who]["theta_E"].bias
        assert moved == pytest.approx(-1, abs=1e-5)
    for merit in first["network"].values():  # it was given the truth
        assert merit.r2 == 1 and merit.rms == 0


def test_the_prior_mean_explains_nothing(lenses):
    systems = systems_of(300, GALAXIES)
    truth = np.asarray(train.targets(systems))
    folds = [np.arange(0, 150), np.arange(150, 300)]
    merits = evaluate.summary(
        systems, lenses, folds, folds[::-1], [truth[r] for r in folds[::-1]], truth
    )
    for merit in merits["prior mean"].values():
        assert -0.2 < merit.r2 <= 0


def test_light_only_of_a_handful_of_galaxies_does_not_blow_up(lenses, rng):
    """Five galaxies cannot fix fifteen coefficients: the sixth gets a sane answer."""
    systems = with_theta_E(systems_of(600, 6), lenses)
    others = systems.lens_index != 5
    few = jax.tree.map(lambda a: np.asarray(a)[others], systems)
    rest = jax.tree.map(lambda a: np.asarray(a)[~others], systems)
    got = LightOnly.fit(few, lenses).predict(rest, lenses)[:, 4]
    seen = np.asarray(few.sie.theta_E)
    assert np.abs(got - seen.mean()).max() < 2 * np.ptp(seen)
