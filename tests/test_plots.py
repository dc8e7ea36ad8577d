"""Pictures: made of anything a run may end with, without a word of warning."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from lensjax.evaluation import metrics
from lensjax.lens import Lens, magnification
from lensjax.plotting import pictures, results
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import EUCLID, HSC

TRUTH = (0.05, -0.1, 0.2, -0.1, 1.3)


def rows(n, rng):
    return np.array(TRUTH) + 0.05 * rng.normal(size=(n, 5))


def drawn(path):
    picture = imread(path)
    assert picture.shape[2] == 4 and picture[..., :3].std() > 0.01
    return picture


@pytest.mark.parametrize("n", [1, 2, 6, 7, 30])
def test_a_sheet_of_any_number_of_mocks(n, rng, tmp_path):
    images = rng.normal(0.1, 0.1, (n, 64, 64, 4))
    truth = rows(n, rng)
    pictures.mocks(images, truth, HSC, tmp_path / "a.png", truth, "some mocks")
    pictures.mocks(images, truth, HSC, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        drawn(tmp_path / name)
    pictures.mocks(images, truth, HSC, tmp_path / "c.png", arcs=images)
    taller = drawn(tmp_path / "c.png").shape[0] - drawn(tmp_path / "b.png").shape[0]
    assert taller == -(-n // 6) * 240  # a row of arcs beneath each row of mocks


def test_a_sheet_with_predictions_that_are_no_lenses(rng, tmp_path):
    images = rng.normal(0.1, 0.1, (5, 64, 64, 4))
    images[0, 3, 3] = np.nan
    bad = np.array([[v] * 5 for v in (np.nan, np.inf, 0.0, 30.0, 1e30)])
    pictures.mocks(images, rows(5, rng), HSC, tmp_path / "a.png", bad)
    drawn(tmp_path / "a.png")


def test_the_first_row_of_an_image_is_at_the_bottom_and_red_is_i(rng, tmp_path):
    image = np.zeros((64, 64, 4))
    image[:32, :, 2] = 50.0  # i, in the lower half: y < 0
    picture = pictures.colour(image, HSC)
    assert (picture[:32, :, 0] > 100).all() and not picture[32:].any()
    pictures.mocks(image[None], rows(1, rng), HSC, tmp_path / "a.png")
    sheet = drawn(tmp_path / "a.png")
    height = sheet.shape[0]
    low, high = sheet[-height // 4], sheet[height // 2]
    red = [(strip[:, 0] - strip[:, 2]).clip(0).sum() for strip in (low, high)]
    assert red[0] > 3 * red[1]


def test_the_sky_is_grey(rng):
    """Noise of HSC's bands has the same width in all three channels."""
    noise = rng.normal(size=(64, 64, 4)) * np.array(HSC.sky_sigma)
    widths = [
        weight * noise[..., HSC.bands.index(band)].std()
        for band, weight in pictures.CHANNELS.items()
    ]
    assert max(widths) / min(widths) < 1.1


def test_the_ellipse_is_the_critical_curve():
    x, y = pictures.ellipse(np.array(TRUTH))
    cx, cy, ex, ey, theta_E = TRUTH
    lens = Lens(SIE(theta_E, ex, ey, cx, cy), Shear(0.0, 0.0))
    outside, inside = (
        np.array([magnification(lens, cx + f * (a - cx), cy + f * (b - cy))
                  for a, b in zip(x[::16], y[::16], strict=True)])
        for f in (1.01, 0.99)
    )  # fmt: skip
    assert (outside > 20).all() and (inside < -20).all()


def records(*losses):
    return [
        {"fold": fold, "epoch": epoch, "train_loss": loss, "val_loss": loss}
        for fold, of_fold in enumerate(losses)
        for epoch, loss in enumerate(of_fold, 1)
    ]


@pytest.mark.parametrize(
    "losses",
    [
        [(0.3,)],
        [(0.3, 0.2, 0.1)],
        [(0.3, None, None)],
        [(None,)],
        [(None, None), (0.5, 0.2)],
        [(0.0, 0.0)],
        [np.geomspace(1, 1e-3, 40).tolist()] * 5,
        [],
    ],
)
def test_loss_curves_of_any_run(losses, tmp_path):
    results.losses(records(*losses), tmp_path / "losses.png")
    drawn(tmp_path / "losses.png")


@pytest.mark.parametrize("n", [1, 3, 14, 60, 3000])
def test_truth_against_prediction(n, rng, tmp_path):
    truth = rows(n, rng)
    predicted = truth + 0.02 * rng.normal(size=truth.shape)
    merits = metrics.merits(truth, predicted)
    results.predictions(truth, predicted, merits, tmp_path / "p.png")
    drawn(tmp_path / "p.png")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e30])
def test_truth_against_nonsense(bad, rng, tmp_path):
    truth = rows(80, rng)
    predicted = truth.copy()
    predicted[:40] = bad
    merits = metrics.merits(truth, predicted)
    results.predictions(truth, predicted, merits, tmp_path / "p.png")
    drawn(tmp_path / "p.png")


def test_importing_leaves_the_users_matplotlib_alone():
    code = (
        "import sys, matplotlib; matplotlib.use('svg'); "
        "import lensjax.plotting.pictures; "
        "assert matplotlib.get_backend() == 'svg'; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_how_mocks_are_made_is_drawn_for_any_survey(rng, tmp_path):
    for survey in (HSC, EUCLID):
        n, bands = survey.image_size, len(survey.bands)
        planes = [rng.normal(0.1, 0.1, (m, m)) for m in (n, 41, 43, 4 * n, n)]
        steps = pictures.Steps(*planes, rng.normal(0.1, 0.1, (n, n, bands)))
        pictures.pipeline([steps] * 2, survey, 0.03, tmp_path / "a.png")
        drawn(tmp_path / "a.png")
    blank = pictures.Steps(*[np.zeros((8, 8))] * 5, np.zeros((108, 108, 1)))
    pictures.pipeline([blank], EUCLID, 0.03, tmp_path / "b.png")  # no light at all


def test_colours_do_not_depend_on_the_zero_point_and_one_band_is_grey(rng):
    image = rng.random((64, 64, 4))
    njy = HSC._replace(zero_point=31.4)
    same = pictures.colour(image * 10 ** (0.4 * 4.4), njy)
    np.testing.assert_allclose(same, pictures.colour(image, HSC), atol=1)
    grey = pictures.colour(image[..., :1], EUCLID)
    weights = np.array(list(pictures.CHANNELS.values()))
    assert grey.shape == (64, 64, 3) and (np.diff(weights) > 0).all()
