"""Pictures of a fit: data, model, what is left, the source, and the posterior."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lensjax.inference.lens_model import Fit
from lensjax.inference.pixel_source import PixelSource
from lensjax.inference.residuals import Explained
from lensjax.inference.scene import SPACE
from lensjax.parameters import axis_label, names
from lensjax.plotting.pictures import colour, curves
from lensjax.survey import Survey

CORNER = ("theta_E", "ex", "ey", "g1", "g2")
"""Numbers of the corner plot."""


def draw(
    fit: Fit,
    parts: Explained,
    survey: Survey,
    pixel_scale: float,
    path: Path,
    title: str = "",
    flags: Sequence[str] = (),
    pixels: PixelSource | None = None,
) -> None:
    """One page of a fit: images above, source and posterior beneath.

    Critical curve white, caustic yellow, both of the best mode; the scale of images is
    arcsec from the middle.  With `pixels` the source is the one that was reconstructed.
    """
    figure = Figure(figsize=(15, 9.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    axes = upper.subplots(1, 5)
    n = parts.image.shape[0]
    half = n * pixel_scale / 2
    extent = (-half, half) * 2
    lens = np.asarray(fit.modes[0])[:7]
    critical, caustic, *_ = [*curves(lens[:5], *lens[5:7]), None, None]
    model = parts.light + parts.arcs
    shown = (
        ("data", parts.image),
        ("model", model),
        ("data without lens light", parts.image - parts.light),
        ("arcs of the model", parts.arcs),
    )
    for axis, (name, image) in zip(axes, shown, strict=False):
        picture = _picture(image, parts.image, survey, name in ("data", "model"))
        axis.imshow(picture, origin="lower", extent=extent, cmap="magma")
        axis.set_title(name, fontsize=10)
    for axis in axes[2:4]:
        if critical is not None:
            axis.plot(*critical, color="white", lw=0.8)
    k = survey.detection if parts.residual.shape[-1] > 1 else 0
    seen = axes[4].imshow(
        parts.residual[..., k], origin="lower", extent=extent, cmap="RdBu_r",
        vmin=-5, vmax=5,
    )  # fmt: skip
    axes[4].set_title(f"residual in {survey.bands[k]} [sigma]", fontsize=10)
    upper.colorbar(seen, ax=axes[4], shrink=0.7)
    for axis in axes:
        axis.set(xlim=(-half, half), ylim=(-half, half))
        axis.tick_params(labelsize=7)
    one, other = lower.subfigures(1, 2, width_ratios=(1, 1.5))
    if pixels is None:
        _source(one.subplots(), fit, parts.source, parts.extent, caustic)
    else:
        half = pixels.pixel_scale * pixels.image.shape[0] / 2
        picture = np.maximum(pixels.image, 0) / max(pixels.image.max(), 1e-30)
        axis = one.subplots()
        _source(axis, fit, picture, half, caustic, view=half)
        axis.set_title("source on pixels, and caustic [arcsec]", fontsize=10)
    _corner(other, fit)
    text = f"{title}   {headline(fit)}"
    if flags:
        text += f"\n{', '.join(flags)}"
    figure.suptitle(text, fontsize=11)
    figure.savefig(path, dpi=80)


def headline(fit: Fit) -> str:
    """theta_E with its errors, chi2 and the arcs' gain, in words."""
    at = names(SPACE).index("theta_E")
    middle, low, high = (float(a[at]) for a in (fit.median, fit.p16, fit.p84))
    error = rf"^{{+{high - middle:.3f}}}_{{-{middle - low:.3f}}}$"
    text = rf"$\theta_\mathrm{{E}} = {middle:.3f}" + error + " arcsec"
    return f"{text}, chi2 {fit.chi2[0]:.2f}, arcs' gain {fit.gain[0]:,.0f}"


def _picture(image, data, survey, bright) -> np.ndarray:
    """Colours where the bands are there, else a stretched plane."""
    if image.shape[-1] >= 3 and set("GRI") <= set(survey.bands):
        stretch = 0.6 if bright else 0.25
        return colour(np.where(np.isfinite(image), image, 0), survey, stretch)
    plane = image[..., survey.detection if image.shape[-1] > 1 else 0]
    scale = np.nanstd(plane) if not bright else np.nanmedian(np.abs(data)) + 1e-12
    return np.arcsinh(plane / max(float(scale), 1e-12))


def _source(axis, fit, image, e, caustic, view=0.0) -> None:
    """An image of the source of half a side e; `view` of it is seen at least."""
    at = {p: k for k, p in enumerate(names(SPACE))}
    x, y = (float(fit.modes[0][at[name]]) for name in ("source_x", "source_y"))
    picture = np.arcsinh(image / 0.05)
    box = (x - e, x + e, y - e, y + e)
    axis.imshow(picture, origin="lower", extent=box, cmap="magma")
    if caustic is not None:
        axis.plot(*caustic, color="gold", lw=0.9)
        xs, ys = (np.concatenate([np.asarray(c), [v]]) for c, v in zip(
            caustic, (x, y), strict=True))  # fmt: skip
        reach = max(0.55 * max(np.ptp(xs), np.ptp(ys), e), view)
        middle = (xs.max() + xs.min()) / 2, (ys.max() + ys.min()) / 2
        axis.set(xlim=(middle[0] - reach, middle[0] + reach),
                 ylim=(middle[1] - reach, middle[1] + reach))  # fmt: skip
    axis.set_facecolor("black")
    axis.set_title("source and caustic [arcsec]", fontsize=10)
    axis.set_aspect("equal")


def _corner(figure, fit: Fit) -> None:
    """Weighted histograms, and draws as large as their weights."""
    at = [names(SPACE).index(name) for name in CORNER]
    draws, weight = np.asarray(fit.draws)[:, at], np.asarray(fit.weight)
    k = len(CORNER)
    axes = figure.subplots(k, k)
    low, high = np.asarray(fit.p16)[at], np.asarray(fit.p84)[at]
    middle = np.asarray(fit.median)[at]
    reach = 3.5 * np.maximum((high - low) / 2, 1e-4)
    size = np.minimum(1500 * weight, 30)
    for i in range(k):
        for j in range(k):
            axis = axes[i, j]
            if j > i:
                axis.axis("off")
                continue
            span = (middle[j] - reach[j], middle[j] + reach[j])
            if i == j:
                axis.hist(draws[:, j], 24, range=span, weights=weight, color="0.4")
                for v, style in ((low[j], ":"), (middle[j], "-"), (high[j], ":")):
                    axis.axvline(v, color="C1", ls=style, lw=1)
                axis.set_yticks([])
            else:
                axis.scatter(draws[:, j], draws[:, i], s=size, color="0.3", lw=0)
                axis.set_ylim(middle[i] - reach[i], middle[i] + reach[i])
            axis.set_xlim(*span)
            axis.tick_params(labelsize=6)
            if i < k - 1:
                axis.set_xticklabels([])
            else:
                axis.set_xlabel(axis_label(SPACE[at[j]]), fontsize=8)
            if j and i != j:
                axis.set_yticklabels([])
            elif j == 0 and i:
                axis.set_ylabel(axis_label(SPACE[at[i]]), fontsize=8)
