"""Figures of merit as the paper draws them: figures 6 to 10 and 12 to 14.

Several networks stand in one figure where the paper compares them: a mapping from a
name to what one network gave, each in a colour of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import corner
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lensjax import parameters
from lensjax.evaluation.metrics import Predictions, running
from lensjax.plotting.results import LABELS

TARGETS = parameters.names()

RATIO = r"$\log_{10}(I_\mathrm{s} / I_\mathrm{l})$ in i"
RATIO_EDGES = np.linspace(-3, -1, 11)  # the paper's range
BINS = 30  # the paper's number
FEW = 10  # systems below which there is no contour
WIDE = 0.8  # [arcsec] theta_E above which the paper judges images and delays


def histograms(predictions: Predictions, path: Path, title: str = "") -> None:
    """Histograms of truth and prediction, and one against the other (6, 9, 10, 12).

    Red line: median prediction in bins of the truth; grey: 68 and 95 %.
    """
    figure = Figure(figsize=(7.5, 14), layout="constrained")
    for (left, right), name in zip(figure.subplots(5, 2), TARGETS, strict=True):
        k = TARGETS.index(name)
        x, y = predictions.truth[:, k], predictions.predicted[:, k]
        low, high = np.percentile(x, [0.2, 99.8])
        edge = 0.05 * (high - low) or 0.1
        edges = np.linspace(low - edge, high + edge, BINS + 1)
        left.hist(x, edges, histtype="step", color="C3", label="true")
        inside = np.clip(y[np.isfinite(y)], edges[0], edges[-1])
        left.hist(inside, edges, histtype="step", color="C0", label="predicted")
        left.set(yscale="log", xlabel=LABELS[name], ylabel="systems")
        left.legend(fontsize=8)
        middle, (b2, b1, median, t1, t2), n = running(
            x, y, edges, (2.5, 16, 50, 84, 97.5)
        )
        enough = n > 4
        for bottom, top, shade in ((b2, t2, "0.85"), (b1, t1, "0.65")):
            right.fill_between(
                middle[enough], bottom[enough], top[enough], color=shade, lw=0
            )
        right.plot(middle[enough], median[enough], color="C3")
        right.plot(edges[[0, -1]], edges[[0, -1]], color="black", ls="--", lw=1)
        right.set(xlim=edges[[0, -1]], ylim=edges[[0, -1]])
        right.set(xlabel=f"true {LABELS[name]}", ylabel=f"predicted {LABELS[name]}")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=90)


def error_pairs(by_name: Mapping[str, Predictions], path: Path) -> None:
    """Errors of all parameters against each other (7): 68 and 95 % of the systems.

    Predictions that are not finite are left out, and so are networks with fewer than
    `FEW` others.
    """
    figure = Figure(figsize=(10, 10))
    errors = {k: a.predicted - a.truth for k, a in by_name.items()}
    errors = {k: e[np.isfinite(e).all(1)] for k, e in errors.items()}
    errors = {k: e for k, e in errors.items() if len(e) >= FEW}
    together = np.concatenate([*errors.values(), np.zeros((1, len(TARGETS)))])
    low, high = np.percentile(together, [0.5, 99.5], axis=0)
    low, high = low - 1e-3, high + 1e-3  # where all are the same
    lines = []
    for color, (name, error) in zip(_colors(), errors.items(), strict=False):
        corner.corner(
            error,
            bins=BINS,
            range=list(zip(low, high, strict=True)),
            labels=[rf"$\Delta$ {LABELS[t]}" for t in TARGETS],
            color=color,
            fig=figure,
            levels=(0.68, 0.95),
            smooth=1.0,
            plot_datapoints=False,
            plot_density=False,
            fill_contours=False,
            no_fill_contours=True,
            hist_kwargs={"density": True},
            max_n_ticks=3,
        )
        lines.append(Line2D([], [], color=color, label=name))
    for k in range(len(TARGETS) if errors else 0):
        axis = figure.axes[k * (len(TARGETS) + 1)]
        axis.relim()
        axis.autoscale(axis="y")
        axis.set_ylim(bottom=0)
    if errors:
        figure.legend(handles=lines, loc="upper right", fontsize=12)
    else:
        text = f"fewer than {FEW} systems with a prediction: no contours"
        figure.text(0.5, 0.5, text, ha="center", fontsize=20)
    figure.savefig(path, dpi=80)


def against_flux_ratio(by_name: Mapping[str, Predictions], path: Path) -> None:
    """Error of theta_E against the brightness of the arcs (8)."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    (blank, top), below = figure.subplots(2, 2)
    blank.axis("off")
    for shift, color, (_, a) in _several(by_name):
        ratio, error = a.log_flux_ratio, (a.predicted - a.truth)[:, 4]
        _shares(top, ratio, np.linspace(-5, 0, 51), color)
        for axis, keep in zip(below, (True, a.truth[:, 4] > WIDE), strict=True):
            keep = np.broadcast_to(keep, ratio.shape)
            _bars(axis, ratio[keep], error[keep], RATIO_EDGES, shift, color)
    blank.legend(handles=_legend(by_name), loc="center", fontsize=11)
    top.axvspan(-5, -3, color="0.9"), top.axvspan(-1, 0, color="0.9")
    top.set(xlabel=RATIO, ylabel="share in a bin", xlim=(-5, 0))
    for axis, what in zip(below, ("all", f"theta_E > {WIDE} arcsec"), strict=True):
        axis.set(xlabel=RATIO, ylabel=r"$\Delta\theta_\mathrm{E}$ [arcsec]", title=what)
    figure.savefig(path, dpi=90)


def follow_up(by_name: Mapping[str, Predictions], path: Path) -> None:
    """Offsets of next images and delays against the brightness of the arcs (13).

    Systems of theta_E > `WIDE` whose number of images is predicted right.
    """
    figure = Figure(figsize=(11, 10), layout="constrained")
    top, (blank, histogram), bottom = figure.subplots(3, 2)
    blank.axis("off")
    for shift, color, (_, a) in _several(by_name):
        d = differences(a)
        ratio = d.log_flux_ratio
        for axis, values in zip(
            (*top, *bottom), (d.x, d.y, d.fraction, d.delay), strict=True
        ):
            _bars(axis, ratio, values, RATIO_EDGES, shift, color)
        _shares(histogram, d.delay, np.linspace(-60, 60, 61), color)
    blank.legend(handles=_legend(by_name), loc="center", fontsize=11)
    for axis, label in zip(
        (*top, *bottom),
        (
            r"$\Delta\theta_x$ of next images [arcsec]",
            r"$\Delta\theta_y$ of next images [arcsec]",
            r"$(\Delta t^\mathrm{pred} - \Delta t) / |\Delta t|$",
            r"$\Delta t^\mathrm{pred} - \Delta t$ [days]",
        ),
        strict=True,
    ):
        axis.set(xlabel=RATIO, ylabel=label)
    histogram.set(xlabel=r"$\Delta t^\mathrm{pred} - \Delta t$ [days]", ylabel="share")
    figure.savefig(path, dpi=90)


def delays_against_theta_E(by_name: Mapping[str, Predictions], path: Path) -> None:
    """Error of the delays against that of theta_E (14); theta_E > `WIDE`."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    edges = np.linspace(-0.8, 0.8, 17)
    for shift, color, (_, a) in _several(by_name):
        d = differences(a)
        for axis, values in zip(axes, (d.delay, d.fraction), strict=True):
            _bars(axis, d.theta_E, values, edges, shift, color)
    for axis, label in zip(
        axes,
        (
            r"$\Delta t^\mathrm{pred} - \Delta t$ [days]",
            r"$(\Delta t^\mathrm{pred} - \Delta t) / |\Delta t|$",
        ),
        strict=True,
    ):
        axis.set(xlabel=r"$\Delta\theta_\mathrm{E}$ [arcsec]", ylabel=label)
    axes[0].legend(handles=_legend(by_name), fontsize=9)
    figure.savefig(path, dpi=90)


class Differences(NamedTuple):
    """Predicted less true next images, one row an image; (M,)."""

    x: np.ndarray  # [arcsec]
    y: np.ndarray
    delay: np.ndarray  # [days]
    fraction: np.ndarray  # of the true delay
    theta_E: np.ndarray  # of the system [arcsec]
    log_flux_ratio: np.ndarray  # of the system
    n_images: np.ndarray  # of the system


def differences(predictions: Predictions, least: float = WIDE) -> Differences:
    """Next images where theta_E > `least` and the number of images agrees."""
    f, d = predictions.followup, predictions.predicted - predictions.truth
    keep = (predictions.truth[:, 4] > least) & (f.n_true == f.n_predicted)
    keep = keep[:, None] & np.isfinite(f.delay) & np.isfinite(f.predicted_delay)

    def spread(values):
        return np.broadcast_to(np.asarray(values)[:, None], keep.shape)[keep]

    delay = (f.predicted_delay - f.delay)[keep]
    with np.errstate(divide="ignore", invalid="ignore"):  # images at one time
        fraction = delay / np.abs(f.delay[keep])
    return Differences(
        (f.predicted_x - f.x)[keep],
        (f.predicted_y - f.y)[keep],
        delay,
        fraction,
        spread(d[:, 4]),
        spread(predictions.log_flux_ratio),
        spread(f.n_true),
    )


def _colors() -> list[str]:
    return [f"C{k}" for k in range(10)]


def _several(by_name: Mapping) -> Sequence[tuple]:
    shifts = 0.012 * (np.arange(len(by_name)) - (len(by_name) - 1) / 2)
    return list(zip(shifts, _colors(), by_name.items(), strict=False))


def _legend(by_name: Mapping) -> list[Line2D]:
    return [
        Line2D([], [], color=color, marker="o", label=name)
        for color, name in zip(_colors(), by_name, strict=False)
    ]


def _shares(axis, values, edges, color: str) -> None:
    """A histogram in shares of all values, those beyond its edges included."""
    share = np.full(len(values), 1 / max(len(values), 1))
    axis.hist(values, edges, histtype="step", color=color, weights=share)


def _bars(axis, x, values, edges, shift: float, color: str) -> None:
    """Median and 68 % of `values` in bins of x."""
    middle, (low, median, high), n = running(x, values, edges, (16, 50, 84))
    keep = n > 9
    error = [(median - low)[keep], (high - median)[keep]]
    at = middle[keep] + shift * (edges[-1] - edges[0])
    axis.errorbar(at, median[keep], error, color=color, marker="o", ms=4, capsize=2)
    axis.axhline(0, color="black", lw=0.8, ls="--")
