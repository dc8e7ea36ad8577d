"""Colour images of lenses: sheets of mocks, how they are made, models on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lensjax import images as image_positions
from lensjax import sie
from lensjax.evaluation.metrics import Predictions
from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import Survey

CHANNELS = {"I": 0.7, "R": 1.0, "G": 1.5}
"""Red, green and blue: bands and their weights, by which HSC's sky noise is grey."""


def colour(
    image: np.ndarray, survey: Survey, stretch: float = 0.6, q: float = 8.0
) -> np.ndarray:
    """RGB picture (n, n, 3) of an image (n, n, band), as Lupton et al. (2004).

    Grey where the survey has not all three bands.
    """
    # HSC's zero point, for which the stretch is made
    image = np.asarray(image, float) * 10 ** (0.4 * (27.0 - survey.zero_point))
    whole = set(CHANNELS) <= set(survey.bands)
    planes = [
        weight * image[..., survey.bands.index(band)]
        if whole
        else image[..., survey.detection]
        for band, weight in CHANNELS.items()
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # at pixels of no light
        return make_lupton_rgb(*planes, stretch=stretch, Q=q)


def mocks(
    images: np.ndarray,
    truth: np.ndarray,
    survey: Survey,
    path: Path,
    predicted: np.ndarray | None = None,
    title: str = "",
    columns: int = 6,
    arcs: np.ndarray | None = None,
) -> None:
    """A sheet of colour images with critical curves: truth dashed, prediction cyan.

    With `arcs`, the lensed sources alone, those stand beneath each row of images.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    rows = rows if arcs is None else 2 * rows
    width, head = max(2 * columns, 4), 0.5
    figure = Figure(figsize=(width, 2 * rows + head))
    axes = figure.subplots(rows, columns, squeeze=False)
    half = survey.image_size * survey.pixel_scale / 2
    for axis in axes.flat:
        axis.axis("off")
    step = 1 if arcs is None else 2
    for k, axis in enumerate(axes[1::step].flat if arcs is not None else ()):
        if k < len(images):
            picture = colour(arcs[k], survey, stretch=0.2)
            axis.imshow(picture, origin="lower", extent=(-half, half) * 2)
            axis.plot(*ellipse(truth[k]), color="white", lw=0.8, ls="--")
            axis.set(xlim=(-half, half), ylim=(-half, half))
    for k, (axis, image) in enumerate(zip(axes[::step].flat, images, strict=False)):
        axis.imshow(colour(image, survey), origin="lower", extent=(-half, half) * 2)
        axis.plot(*ellipse(truth[k]), color="white", lw=0.8, ls="--")
        text = rf"$\theta_\mathrm{{E}}$ {truth[k][4]:.2f}"
        if predicted is not None:
            axis.plot(*ellipse(predicted[k]), color="cyan", lw=0.8)
            text += f" / {predicted[k][4]:.2f}"
        text += " arcsec" if k == 0 else ""
        axis.text(-0.94 * half, 0.83 * half, text, color="white", fontsize=8)
        axis.set(xlim=(-half, half), ylim=(-half, half))  # whatever was predicted
    bar = axes[0, 0]
    bar.plot([-0.9 * half, -0.9 * half + 2], [-0.88 * half] * 2, color="white", lw=1.5)
    bar.text(-0.9 * half + 2.2, -0.93 * half, '2"', color="white", fontsize=8)
    figure.suptitle(title, fontsize=10, y=1 - 0.15 / (2 * rows + head), va="top")
    top = 1 - head / (2 * rows + head)
    figure.subplots_adjust(0.005, 0.005, 0.995, top, wspace=0.02, hspace=0.02)
    figure.savefig(path, dpi=120)


class Steps(NamedTuple):
    """A mock on its way, in one band but for the last; `pipeline` draws them."""

    lens: np.ndarray  # (n, n) its cutout
    source: np.ndarray  # (m, m) unlensed
    psf: np.ndarray  # (k, k)
    lensed: np.ndarray  # (rays, rays) before the telescope
    arcs: np.ndarray  # (n, n) as the survey sees them
    mock: np.ndarray  # (n, n, band) all of it


def pipeline(
    steps: Sequence[Steps], survey: Survey, source_pixel_scale: float, path: Path
) -> None:
    """How mocks are made, one row a system: figure 3 of Schuldt et al. (2021)."""
    band = survey.bands[survey.detection].lower()
    titles = (
        f"lens galaxy ({band})",
        "source, unlensed",
        "PSF",
        "lensed source",
        "as the survey sees it",
        f"mock ({band})",
        "mock in colour",
    )
    figure = Figure(figsize=(14, 2.1 * len(steps) + 0.3), layout="constrained")
    axes = figure.subplots(len(steps), len(titles), squeeze=False)
    half = survey.image_size * survey.pixel_scale / 2
    psf_scale = survey.pixel_scale / survey.psf_oversampling
    for row, s in zip(axes, steps, strict=True):
        mock = s.mock[..., survey.detection]
        noise = 1.5 * survey.sky_sigma[survey.detection]
        planes = (
            (s.lens, half, noise),
            (s.source, s.source.shape[0] * source_pixel_scale / 2, None),
            (s.psf, s.psf.shape[0] * psf_scale / 2, None),
            (s.lensed, half, None),
            (s.arcs, half, noise),
            (mock, half, noise),
        )
        for axis, (plane, edge, soft) in zip(row, planes, strict=False):
            # linear in the noise, logarithmic above it
            soft = soft or 0.05 * plane.max() or 1.0
            shown = np.arcsinh(plane / soft)
            grey = {"cmap": "gray", "origin": "lower", "vmin": -1.0}
            axis.imshow(shown, extent=(-edge, edge) * 2, **grey)
        row[-1].imshow(colour(s.mock, survey), origin="lower", extent=(-half, half) * 2)
        for axis in row:
            axis.tick_params(labelsize=6)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    axes[-1, 0].set_xlabel("arcsec", fontsize=7)
    figure.savefig(path, dpi=110)


def ellipse(target: np.ndarray, n: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Critical curve of one row of targets: an ellipse, as there is no shear."""
    if not np.isfinite(target).all():
        return np.full(n, np.nan), np.full(n, np.nan)
    x, y, ex, ey, theta_E = (float(v) for v in target)
    size = np.hypot(ex, ey)
    shrink = min(1, 0.95 / size) if size else 1  # a prediction may be no ellipse
    q, phi = (
        float(v) for v in sie.axis_ratio(SIE(1.0, ex * shrink, ey * shrink, x, y))
    )
    t = np.linspace(0, 2 * np.pi, n)
    along = 2 * theta_E / (1 + q) * np.cos(t)  # kappa = 1/2 at r = 2 theta_E / (1 + q)
    across = 2 * q * theta_E / (1 + q) * np.sin(t)
    c, s = np.cos(phi), np.sin(phi)
    return x + c * along - s * across, y + s * along + c * across


def models(
    images: np.ndarray,
    predictions: Predictions,
    beta: np.ndarray,
    shear: np.ndarray,
    survey: Survey,
    path: Path,
    ids: Sequence[str] = (),
    columns: int = 4,
) -> None:
    """Lens models on colour images (N, n, n, band): curves, next images and delays.

    predictions: of these N systems; beta (N, 2): their sources' places [arcsec]; shear
    (N, 2): g1 and g2 behind the truth, the predictions have none.  Critical curve
    solid, caustic and cut dotted; white is the truth, cyan the prediction.  A star is
    the image that is known, circles are the true next images and crosses the predicted
    ones, with their delays in days.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    half = survey.image_size * survey.pixel_scale / 2
    for axis in axes.flat:
        axis.axis("off")
    for k, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(colour(image, survey), origin="lower", extent=(-half, half) * 2)
        for target, g, color in (
            (predictions.truth[k], shear[k], "white"),
            (predictions.predicted[k], (0.0, 0.0), "cyan"),
        ):
            for curve, style in zip(curves(target, *g), ("-", ":", ":"), strict=False):
                axis.plot(*curve, color=color, lw=0.9, ls=style)
        f = jax.tree.map(lambda a, k=k: np.asarray(a)[k], predictions.followup)
        axis.plot(f.first_x, f.first_y, "*", color="yellow", ms=9, mec="black")
        reach = float(max(*np.abs((f.first_x, f.first_y)), predictions.truth[k][4]))
        axis.plot(*beta[k], ".", color="yellow", ms=3)
        for x, y, days, style in (
            (f.x, f.y, f.delay, {"marker": "o", "color": "white", "mfc": "none"}),
            (f.predicted_x, f.predicted_y, f.predicted_delay,
             {"marker": "x", "color": "cyan"}),
        ):  # fmt: skip
            seen = np.isfinite(x) & (np.hypot(x, y) < 1.3 * half)
            axis.plot(x[seen], y[seen], ls="none", ms=7, **style)
            side = 0.12 if style["marker"] == "o" else -0.12
            for a, b, day in zip(x[seen], y[seen], days[seen], strict=True):
                axis.text(
                    a,
                    b + side,
                    f"{day:.1f}",
                    color=style["color"],
                    fontsize=8,
                    va="bottom" if side > 0 else "top",
                    ha="center",
                    path_effects=[withStroke(linewidth=2, foreground="black")],
                )
            reach = max([reach, *np.abs(x[seen]), *np.abs(y[seen])])
        reach = min(1.25 * reach + 0.4, half)
        title = rf"$\theta_\mathrm{{E}}$ {predictions.truth[k][4]:.2f} / "
        title += f"{predictions.predicted[k][4]:.2f} arcsec"
        axis.set_title(f"{ids[k]}  {title}" if len(ids) else title, fontsize=8)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    figure.savefig(path, dpi=90)


def curves(
    target: np.ndarray, g1: float = 0.0, g2: float = 0.0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Critical curve, caustic and cut of one row of targets; none if it is no lens."""
    if not np.isfinite(target).all() or np.hypot(*target[2:4]) >= 1 or target[4] <= 0:
        return []
    x, y, ex, ey, theta_E = (float(v) for v in target)
    lens = Lens(SIE(theta_E, ex, ey, x, y), Shear(float(g1), float(g2)))
    found = (
        image_positions.critical_curve(lens),
        image_positions.caustic(lens),
        image_positions.cut(lens),
    )
    return [tuple(np.asarray(c) for c in curve) for curve in found]
