"""The table of fitted lenses: its columns, its flags, and one row of a fit."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import jax
import numpy as np
from astropy.table import Column, Table

from lensjax import parameters, sie
from lensjax.catalogue import object_table, quality
from lensjax.inference import source_images
from lensjax.inference.candidate import HANDLED
from lensjax.inference.lens_model import Fit
from lensjax.inference.problem import Settings
from lensjax.inference.scene import SPACE, Priors
from lensjax.inference.source_images import Known
from lensjax.parameters import Parameter

FATAL = {k: v for k, v in quality.FATAL.items() if k not in HANDLED} | {
    "no_fit": "no start led to a model: all were NaN",
}
"""Flags of rows without a model."""

WARNING = (
    quality.WARNING
    | {k: quality.FATAL[k] for k in HANDLED}
    | {
        "no_arcs": "arcs bring too little: theta_E is what the prior says",
        "several_modes": "another model is likely, too, and has another theta_E",
        "one_object": "nearly all that tells theta_E is on one side: a neighbour?",
        "network_differs": "a network that was asked has another theta_E",
        "far_from_prior": "mass, shear or source are unlike what lenses have",
        "poor_fit": "pixels are off the model by more than the noise",
        "chains_disagree": "chains of the sampler have not found the same posterior",
        "few_draws": "draws are few, so errors are rough, and rather too small",
        "not_lensed": "the model's source has a single image",
        "psf_assumed": "no PSF in the file: the survey's seeing",
        "no_network": "the network that was asked has nothing to say of such an image",
        "noise_assumed": "no noise in the file: the survey's",
        "duplicate_id": "another file has the same name, perhaps in another folder",
    }
)
"""Flags of rows with one."""

LEAST_GAIN = 100.0  # of chi2 by arcs
SURE = 0.9  # probability of the best mode and of those like it
ALIKE = 0.1  # of theta_E: modes nearer together are alike
LONE = 0.95  # of the gain from one side
FAR = 60.0  # of the priors' sum of squares, which has 13 terms
POOR = 2.5  # reduced chi2
FEW = 5.0  # draws
DIFFERS = 2.5  # sigma of a network's own
APART = 1.1  # R-hat

LENS = SPACE[: len(parameters.WITH_SHEAR)]
IMAGES = 4  # that a row has room for
UNKNOWN = Known()
DOUBLE = ("ra_deg", "dec_deg", *(f"image{k}_mjd" for k in range(1, IMAGES + 1)))


def order() -> list[int]:
    """Indices of `SPACE` in the order of a table: what is asked for most is first."""
    names = parameters.names(SPACE)
    first = [names.index(n) for n in ("theta_E", "ex", "ey", "x", "y")]
    return first + [k for k in range(len(SPACE)) if k not in first]


def columns(bands: Sequence[str]) -> list[Parameter]:
    """All numbers of a row, as `Parameter` with column, unit and meaning."""
    found = []
    for k in order():
        p = SPACE[k]
        column = p.column
        found.append(p._replace(column=column, meaning=f"{p.meaning}: median"))
        for ending, what in (
            ("p16", "16 %"),
            ("p84", "84 %"),
            ("sigma", "standard deviation"),
        ):
            found.append(_number(f"{column}_{ending}", p.unit, f"{p.meaning}: {what}"))
    for a, b in combinations(LENS, 2):
        unit = " ".join(u for u in (a.unit, b.unit) if u)
        unit = {"arcsec arcsec": "arcsec2"}.get(unit, unit)
        found.append(_number(f"cov_{a.name}_{b.name}", unit, "covariance"))
    found += [
        _number("q", "", "axis ratio of the mass, of the medians"),
        _number("phi_rad", "rad", "its major axis, from +x towards +y"),
        _number("chi2", "", "reduced, over all pixels that count"),
        _number("arc_gain", "", "what the arcs take off chi2"),
        _number("arc_lone", "", "share of it from one sixth of the circle"),
        _number("pull", "", "sum of squares of departures from the priors"),
        _number("n_modes", "", "models that are likely"),
        _number("probability", "", "of the best of them"),
        _number("theta_E_second_arcsec", "arcsec", "of the second, NaN without"),
        _number("effective_draws", "", "equal ones that the draws are worth"),
        _number("r_hat", "", "of the sampler's chains, NaN where there are none"),
        _number("divergences", "", "of trajectories, likewise"),
        _number("temperature", "", "chi2 was divided by it"),
        _number("p_arc", "", "a network's: probability that there is an arc"),
        _number("network_theta_E_arcsec", "arcsec", "a network's median"),
        _number("network_theta_E_arcsec_sigma", "arcsec", "its standard deviation"),
        _number("neighbours", "", "share of pixels that a network masked"),
        _number("n_images", "", "of the source's centre, or of what was seen"),
        _number("n_images_share", "", "probability of that number"),
        _number("magnification", "", "of all images of a point there"),
        _number("magnification_sigma", "", "half of its 16 to 84 %"),
    ]
    for k in range(1, IMAGES + 1):
        which = f"image {k} in the order of arrival"
        for name, unit in (("x", "arcsec"), ("y", "arcsec"), ("magnification", "")):
            column = f"image{k}_{name}" + (f"_{unit}" if unit else "")
            found.append(_number(column, unit, f"{which}: median"))
            found.append(_number(f"{column}_sigma", unit, "half of its 16 to 84 %"))
        column = f"image{k}_delay_days"
        found.append(_number(column, "d", f"{which}: after the first, or the one seen"))
        found.append(_number(f"{column}_p16", "d", "16 %"))
        found.append(_number(f"{column}_p84", "d", "84 %"))
        found.append(_number(f"image{k}_mjd", "d", "when it comes, by the median"))
    for band in bands:
        found.append(
            _number(f"source_flux_{band.lower()}", "ct", "of the source, unlensed")
        )
    return [
        *found,
        _number("ra_deg", "deg", "from the file"),
        _number("dec_deg", "deg", "from the file"),
    ]


def _number(column: str, unit: str, meaning: str) -> Parameter:
    return Parameter(column, column, unit, "", meaning)


def numbers(fit: Fit, bands: Sequence[str], known: Known = UNKNOWN) -> dict[str, float]:
    """Numbers of a row by column, of a fit whose arrays are on the host."""
    row: dict[str, float] = {}
    sigma = np.sqrt(np.maximum(np.diag(fit.covariance), 0)).tolist()
    for k in order():
        column = SPACE[k].column
        row[column] = float(fit.median[k])
        row[f"{column}_p16"] = float(fit.p16[k])
        row[f"{column}_p84"] = float(fit.p84[k])
        row[f"{column}_sigma"] = sigma[k]
    for (i, a), (j, b) in combinations(enumerate(LENS), 2):
        row[f"cov_{a.name}_{b.name}"] = float(fit.covariance[i, j])
    mass = sie.SIE(*(np.float32(row[_column(n)]) for n in sie.SIE._fields))
    row["q"], row["phi_rad"] = (float(v) for v in sie.axis_ratio(mass))
    row |= {
        "chi2": float(fit.chi2[0]),
        "arc_gain": float(fit.gain[0]),
        "arc_lone": float(fit.lone[0]),
        "pull": float(fit.pull[0]),
        "n_modes": float((fit.probability > 0.01).sum()),
        "probability": float(fit.probability[0]),
        "theta_E_second_arcsec": _second(fit),
        "effective_draws": float(fit.effective),
        "r_hat": float(fit.r_hat),
        "divergences": float(fit.divergences),
        "temperature": float(fit.temperature),
    }
    for band, flux in zip(bands, fit.flux[0], strict=True):
        row[f"source_flux_{band.lower()}"] = float(flux)
    return row | pictured(fit, known)


def pictured(fit: Fit, known: Known) -> dict[str, float]:
    """Images of the source, or of what was seen, by column."""
    if not np.isfinite(fit.median).all():
        return {"n_images": float("nan")}
    found = jax.tree.map(
        np.asarray, source_images.predict(fit.draws, fit.weight, known)
    )

    def half(values):
        return float(values[2] - values[0]) / 2

    row = {
        "n_images": float(found.number),
        "n_images_share": float(found.share),
        "magnification": float(found.total[1]),
        "magnification_sigma": half(found.total),
    }
    for k in range(IMAGES):
        column = f"image{k + 1}"
        for name, values in (
            ("x_arcsec", found.x),
            ("y_arcsec", found.y),
            ("magnification", found.magnification),
        ):
            row[f"{column}_{name}"] = float(values[1, k])
            row[f"{column}_{name}_sigma"] = half(values[:, k])
        delay = zip(("_p16", "", "_p84"), found.delay[:, k], strict=True)
        row |= {f"{column}_delay_days{end}": float(days) for end, days in delay}
        row[f"{column}_mjd"] = known.seen_mjd + row[f"{column}_delay_days"]
    return row


def _column(name: str) -> str:
    return SPACE[parameters.names(SPACE).index(name)].column


def _second(fit: Fit) -> float:
    """theta_E [arcsec] of the likeliest mode that is not like the best, or nan."""
    theta = fit.modes[:, parameters.names(SPACE).index("theta_E")]
    for t, p in zip(theta[1:], fit.probability[1:], strict=True):
        if p > 0.01 and abs(t / theta[0] - 1) > ALIKE:
            return float(t)
    return float("nan")


def judged(row: Mapping[str, float], settings: Settings) -> dict[str, str]:
    """What a person should know of a row's numbers: flag -> message."""
    flags = {}
    theta = row[_column("theta_E")]
    if not np.isfinite(theta):
        return {"no_fit": "no start led to a model: look at the image"}
    if row["arc_gain"] / settings.temperature < LEAST_GAIN:
        gain = f"arcs take {row['arc_gain']:.0f} off chi2"
        flags["no_arcs"] = f"{gain}: theta_E is the prior's"
    elif row["arc_lone"] > LONE:
        flags["one_object"] = f"{row['arc_lone']:.0%} of the gain is on one side"
    second = row["theta_E_second_arcsec"]
    if row["probability"] < SURE and np.isfinite(second):
        other = f"theta_E = {second:.2f} arcsec is likely, too"
        flags["several_modes"] = f"{other}: look at the residuals of both"
    other = row.get("network_theta_E_arcsec", np.nan)
    off = abs(theta - other) / row.get("network_theta_E_arcsec_sigma", np.nan)
    if off > DIFFERS:
        flags["network_differs"] = f"theta_E is {other:.2f} to it, {off:.1f} sigma"
    if row["pull"] > FAR:
        flags["far_from_prior"] = f"sum of squares {row['pull']:.0f} of 13 numbers"
    if row["chi2"] > POOR:
        flags["poor_fit"] = f"reduced chi2 {row['chi2']:.2f}"
    if row["effective_draws"] < FEW:
        flags["few_draws"] = f"worth {row['effective_draws']:.1f} equal ones"
    if row["r_hat"] > APART:
        flags["chains_disagree"] = f"R-hat {row['r_hat']:.2f}: warmup, draws larger"
    if row["n_images"] < 2:
        flags["not_lensed"] = "the source lies where there is one image only"
    return flags


def of_prior(row: dict[str, float], priors: Priors) -> None:
    """Give theta_E, in place, what is known of it without arcs: the prior."""
    middle, width = priors.ln_theta_E
    column = _column("theta_E")
    row[column] = float(np.exp(middle))
    row[f"{column}_p16"] = float(np.exp(middle - width))
    row[f"{column}_p84"] = float(np.exp(middle + width))
    log_normal = np.sqrt(np.expm1(width**2)) * np.exp(middle + width**2 / 2)
    row[f"{column}_sigma"] = float(log_normal)


def draws_of_prior(draws: np.ndarray, priors: Priors) -> None:
    """Give draws (draw, 13 and weight) theta_E of the prior, in place; all alike."""
    middle, width = priors.ln_theta_E
    normal = np.random.default_rng(0).normal(size=len(draws))
    at = parameters.names(SPACE).index("theta_E")
    draws[:, at], draws[:, -1] = np.exp(middle + width * normal), 1 / len(draws)


def made(
    ids: Sequence[str],
    paths: Sequence[str],
    rows: Sequence[Mapping[str, float]],
    flags: Sequence[Mapping[str, str]],
    origins: Sequence[Mapping[str, str]],
    bands: Sequence[str],
    about: dict,
) -> Table:
    """The table; what a row does not have is NaN."""
    table = Table()
    table["id"] = Column(list(ids), dtype=object)
    for p in columns(bands):
        kind = np.float64 if p.column in DOUBLE else np.float32
        values = np.array([row.get(p.column, np.nan) for row in rows], kind)
        table[p.column] = Column(values, unit=p.unit or None, description=p.meaning)
    for plane in ("psf", "noise", "mask"):
        words = [origin.get(plane, "") for origin in origins]
        table[f"{plane}_from"] = Column(words, dtype=object)
        table[f"{plane}_from"].description = "file, survey or none"
    object_table.add_words(table, flags, paths)
    table.meta = object_table.meta(flags, fit=about)
    return table


def is_fatal(flags: Iterable[str]) -> bool:
    """Whether a row has no model."""
    return any(flag not in WARNING for flag in flags)


def summary(table: Table) -> str:
    """Say in a few lines how many rows have a model, and how many each flag."""
    flags = object_table.flags_of(table)
    without, clean = sum(map(is_fatal, flags)), sum(not row for row in flags)
    head = f"{len(table)} cutouts: {len(table) - without} fitted, {without} not"
    meaning = FATAL | WARNING
    lines = object_table.counted(table.meta["flags"], meaning, WARNING, "no model")
    return "\n".join([f"{head}; {clean} without a flag", *lines])
