"""Figures of merit: of any run, also of one that went wrong, without a warning."""

import jax
import numpy as np
import pytest
from test_plots import TRUTH, drawn

from lensjax.evaluation.metrics import Predictions, running
from lensjax.next_images import FollowUp
from lensjax.plotting import paper_figures, pictures
from lensjax.survey import HSC


def predictions(n, rng, error=0.1):
    truth = np.array(TRUTH) + np.array([0.05, 0.05, 0.2, 0.2, 0.3]) * rng.normal(
        size=(n, 5)
    )
    nothing = np.full((n, 7), np.nan)
    first = rng.normal(size=(2, n, 7)) * np.where(np.arange(7) == 0, 1, np.nan)
    wrong = first + 0.1
    found = FollowUp(
        truth[:, 0], truth[:, 1], np.full(n, 2), np.full(n, 2), *first,
        np.abs(first[0]) * 20, *wrong, np.abs(first[0]) * 22,
    )  # fmt: skip
    assert found.x.shape == nothing.shape
    predicted = truth + error * rng.normal(size=(n, 5))
    return Predictions(truth, predicted, rng.uniform(-3.5, -0.5, n), found)


@pytest.mark.parametrize(
    ("n", "names"),
    [
        (1, ["lost", "one"]),
        (8, ["lost"]),
        (8, ["lost", "one"]),
        (300, ["one", "other"]),
    ],
)
def test_figures_of_any_number_of_systems_and_networks(n, names, rng, tmp_path):
    known = {"one": predictions(n, rng), "other": predictions(n, rng)}
    known["lost"] = known["one"]._replace(predicted=np.full((n, 5), np.nan))
    by_name = {name: known[name] for name in names}
    for figure in (
        paper_figures.error_pairs,
        paper_figures.against_flux_ratio,
        paper_figures.follow_up,
        paper_figures.delays_against_theta_E,
    ):
        figure(by_name, tmp_path / "a.png")
        drawn(tmp_path / "a.png")


@pytest.mark.parametrize("n", [1, 300])
def test_histograms_of_good_lost_and_stuck_networks(n, rng, tmp_path):
    good = predictions(n, rng)
    for predicted in (good.predicted, np.full((n, 5), np.nan), np.zeros((n, 5))):
        paper_figures.histograms(good._replace(predicted=predicted), tmp_path / "h.png")
        drawn(tmp_path / "h.png")


def test_differences_are_of_next_images_whose_number_is_right(rng):
    a = predictions(50, rng)
    narrow = a.truth[:, 4] <= paper_figures.WIDE
    other = np.arange(50) % 5 == 0
    n = np.where(other, 4, 2)
    a = a._replace(followup=a.followup._replace(n_predicted=n))
    d = paper_figures.differences(a)
    kept = ~narrow & ~other
    assert len(d.x) == kept.sum()
    np.testing.assert_allclose(d.x, 0.1, rtol=1e-6)
    np.testing.assert_allclose(d.fraction, 0.1, rtol=1e-6)
    np.testing.assert_allclose(d.theta_E, (a.predicted - a.truth)[kept, 4])


def test_running_percentiles_by_hand():
    x = np.array([0.5, 0.6, 1.5, 9.0])
    middle, (median,), n = running(x, [1.0, 3.0, 7.0, 9.0], [0, 1, 2, 3], [50])
    assert middle.tolist() == [0.5, 1.5, 2.5] and n.tolist() == [2, 1, 0]
    np.testing.assert_allclose(median, [2.0, 7.0, np.nan])


def test_models_with_shear_and_without_a_lens(rng, tmp_path):
    a = predictions(3, rng)
    bad = a.predicted.copy()
    bad[0], bad[1] = np.nan, (0, 0, 0.9, 0.9, 1)
    images = rng.normal(0.1, 0.1, (3, 64, 64, 4))
    shear = np.full((3, 2), 0.05)
    a = jax.tree.map(np.asarray, a._replace(predicted=bad))
    pictures.models(images, a, np.zeros((3, 2)), shear, HSC, tmp_path / "a.png")
    drawn(tmp_path / "a.png")


def test_curves_are_those_of_the_lens_in_its_shear():
    """On the critical curve det A is zero; without shear it is the ellipse."""
    critical, caustic, cut = pictures.curves(np.array(TRUTH))
    x, y = pictures.ellipse(np.array(TRUTH), 256)
    one, other = (np.hypot(a - TRUTH[0], b - TRUTH[1]) for a, b in (critical, (x, y)))
    assert one.max() == pytest.approx(other.max(), rel=1e-3)
    assert one.min() == pytest.approx(other.min(), rel=1e-3)
    sheared = pictures.curves(np.array(TRUTH), 0.1, 0.0)
    assert np.abs(np.array(sheared[1]) - np.array(caustic)).max() > 0.02
    assert np.isfinite(cut).all()
