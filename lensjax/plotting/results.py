"""What a training run came to: loss curves, truth against prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lensjax import parameters
from lensjax.evaluation.metrics import Merit, mean_curve

TARGETS = parameters.names()
LABELS = {p.name: parameters.axis_label(p) for p in parameters.WITHOUT_SHEAR}


def losses(records: Sequence[dict], path: Path) -> None:
    """Training and validation loss of every fold against the epoch, the best marked.

    With several folds also the mean of the validation curves, whose least value decides
    for how long a final network trains (figure 11 of Schuldt et al. 2021).
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for fold in sorted({r["fold"] for r in records}):
        own = [r for r in records if r["fold"] == fold]
        epoch = [r["epoch"] for r in own]
        # None, a loss that is no number, leaves a gap
        train, validation = (
            np.array([r[name] for r in own], float)
            for name in ("train_loss", "val_loss")
        )
        (line,) = axis.plot(epoch, validation, label=f"fold {fold}", marker=".")
        axis.plot(epoch, train, color=line.get_color(), ls=":", marker=".", ms=3)
        if np.isfinite(validation).any():
            best = np.nanargmin(validation)
            axis.plot(epoch[best], validation[best], "o", color=line.get_color(), ms=7)
        else:
            line.set_label(f"fold {fold} (diverged)")
    curve = mean_curve(records)
    if len({r["fold"] for r in records}) > 1 and np.isfinite(curve).any():
        best = np.nanargmin(curve) + 1
        axis.plot(np.arange(1, len(curve) + 1), curve, color="black", label="mean")
        axis.axvline(best, color="0.6", lw=1, zorder=0, label=f"epoch {best}")
    axis.set(xlabel="epoch", ylabel="loss (eq. 6)")
    # without a positive number there is nothing that a logarithmic axis could span
    if any((r["val_loss"] or 0) > 0 or (r["train_loss"] or 0) > 0 for r in records):
        axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(which="both", alpha=0.2)
    if records:
        title = "solid: validation, dotted: training\ncircle: best epoch"
        beside = {"loc": "outside right upper", "fontsize": 8, "title_fontsize": 8}
        figure.legend(title=title, **beside)  # on the axes it would hide curves
    figure.savefig(path, dpi=120)


def predictions(
    truth: np.ndarray, predicted: np.ndarray, merits: dict[str, Merit], path: Path
) -> None:
    """Truth against prediction, with the median and the 16 to 84 % band in deciles.

    The axes span the truth; predictions beyond them are drawn at the edge.
    """
    figure = Figure(figsize=(16, 3.8), layout="constrained")
    for axis, name in zip(figure.subplots(1, 5), reversed(TARGETS), strict=True):
        k = TARGETS.index(name)
        x, y = truth[:, k], predicted[:, k]
        low, high = np.percentile(x, [0.3, 99.7])
        edge = 0.15 * (high - low) or 0.1
        low, high = low - edge, high + edge
        # few points must be seen, many must not hide each other
        size, alpha = (
            np.interp(np.log10(len(x)), [1, 4], [25, 4]),
            min(1, 6 / len(x) ** 0.4),
        )
        shown = np.clip(y, low, high)
        axis.scatter(x, shown, s=size, alpha=alpha, lw=0, color="C0", rasterized=True)
        axis.plot([low, high], [low, high], color="black", lw=1, zorder=3)
        parts = [p for p in np.array_split(np.argsort(x), 10) if len(p) > 4]
        if len(parts) > 1 and np.isfinite(y).all():
            middle = [np.median(x[p]) for p in parts]
            bottom, median, top = np.transpose(
                [np.percentile(y[p], [16, 50, 84]) for p in parts]
            )
            axis.fill_between(middle, bottom, top, color="C1", alpha=0.3, lw=0)
            axis.plot(middle, median, color="C1", marker="o", ms=4)
        merit = merits[name]
        axis.set(xlim=(low, high), ylim=(low, high), xlabel=f"true {LABELS[name]}")
        axis.set_ylabel(f"predicted {LABELS[name]}")
        title = rf"$R^2$ = {merit.r2:.2f}, half width {merit.half_width:.3f}"
        axis.set_title(title, fontsize=10)
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_major_locator(MaxNLocator(5))
        axis.set_aspect("equal")
    figure.savefig(path, dpi=110)
