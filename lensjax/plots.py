"""Pictures: colour images of lenses, loss curves, truth against prediction."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from astropy.visualization import make_lupton_rgb

from lensjax import sie
from lensjax.evaluate import Merit
from lensjax.sie import SIE
from lensjax.survey import Survey
from lensjax.train import TARGETS

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

LABELS = {
    "x": r"$x$ [arcsec]",
    "y": r"$y$ [arcsec]",
    "ex": r"$e_x$",
    "ey": r"$e_y$",
    "theta_E": r"$\theta_\mathrm{E}$ [arcsec]",
}


def colour(image: np.ndarray, stretch: float = 0.6, q: float = 8.0) -> np.ndarray:
    """RGB picture (n, n, 3) of a griz image (n, n, 4), as Lupton et al. (2004)."""
    g, r, i = (np.asarray(image[..., k], float) for k in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):  # at pixels of no light
        return make_lupton_rgb(i, r, g, stretch=stretch, Q=q)


def mocks(
    images: np.ndarray,
    truth: np.ndarray,
    survey: Survey,
    path: Path,
    predicted: np.ndarray | None = None,
    title: str = "",
    columns: int = 6,
) -> None:
    """A sheet of colour images with critical curves: truth white, prediction cyan."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2 * columns, 2.12 * rows + 0.4), squeeze=False
    )
    half = survey.image_size * survey.pixel_scale / 2
    for axis in axes.flat:
        axis.axis("off")
    for k, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(colour(image), origin="lower", extent=(-half, half) * 2)
        axis.plot(*ellipse(truth[k]), color="white", lw=0.7, ls="--")
        text = rf"$\theta_\mathrm{{E}}$ {truth[k][4]:.2f}"
        if predicted is not None:
            axis.plot(*ellipse(predicted[k]), color="cyan", lw=0.7)
            text += f" / {predicted[k][4]:.2f}"
        axis.text(
            0.03,
            0.96,
            text,
            color="white",
            fontsize=7,
            va="top",
            transform=axis.transAxes,
        )
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def ellipse(target: np.ndarray, n: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Critical curve of one row of targets: an ellipse, as there is no shear."""
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


def losses(records: Sequence[dict], path: Path) -> None:
    """Training and validation loss of every fold against the epoch."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for fold in sorted({r["fold"] for r in records}):
        own = [r for r in records if r["fold"] == fold]
        epoch = [r["epoch"] for r in own]
        (line,) = axis.plot(epoch, [r["val_loss"] for r in own], label=f"fold {fold}")
        axis.plot(epoch, [r["train_loss"] for r in own], color=line.get_color(), ls=":")
        best = min(own, key=lambda r: r["val_loss"] if r["val_loss"] else np.inf)
        axis.plot(best["epoch"], best["val_loss"], "o", color=line.get_color(), ms=5)
    axis.set(xlabel="epoch", ylabel="loss (eq. 6)", yscale="log")
    axis.legend(
        title="solid: validation, dotted: training", fontsize=8, title_fontsize=8
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def predictions(
    truth: np.ndarray, predicted: np.ndarray, merits: dict[str, Merit], path: Path
) -> None:
    """Truth against prediction for the five parameters, with medians and 68 % bands."""
    figure, axes = plt.subplots(1, 5, figsize=(17, 3.9))
    for k, (axis, name) in enumerate(zip(axes, TARGETS, strict=True)):
        x, y = truth[:, k], predicted[:, k]
        low, high = np.percentile(np.concatenate([x, y]), [0.3, 99.7])
        edge = 0.05 * (high - low)
        low, high = low - edge, high + edge
        axis.plot([low, high], [low, high], color="0.5", lw=1)
        axis.scatter(x, y, s=4, alpha=0.35, lw=0, rasterized=True)
        bins = np.quantile(x, np.linspace(0, 1, 11))
        place = np.clip(np.searchsorted(bins, x) - 1, 0, 9)
        quantiles = [
            np.percentile(y[place == b], [16, 50, 84])
            for b in range(10)
            if (place == b).sum() > 4
        ]
        middle = [np.median(x[place == b]) for b in range(10) if (place == b).sum() > 4]
        if quantiles:
            bottom, median, top = np.transpose(quantiles)
            error = (median - bottom, top - median)
            axis.errorbar(middle, median, error, fmt="o", color="C3", ms=4, lw=1.2)
        merit = merits[name]
        axis.set(
            xlim=(low, high),
            ylim=(low, high),
            xlabel=f"true {LABELS[name]}",
            ylabel="predicted",
            title=f"$R^2$ {merit.r2:.2f}, half width {merit.half_width:.3f}",
        )
        axis.title.set_fontsize(9)
        axis.set_aspect("equal")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
