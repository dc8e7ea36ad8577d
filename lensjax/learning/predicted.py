"""The table of predicted lenses: its columns, its flags, and what is no lens."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from astropy.table import Column, Table

from lensjax import parameters, sie
from lensjax.catalogue import object_table, quality
from lensjax.parameters import WITHOUT_SHEAR, Parameter, Space
from lensjax.survey import Survey

FATAL = quality.FATAL | {
    "nan_prediction": "the network predicted NaN or infinity",
    "unphysical_theta_E": "the network predicted an Einstein radius of zero or less",
}
"""Flags of rows without a prediction."""

WARNING = quality.WARNING | {
    "unphysical_ellipticity": "|e| >= 1 predicted: clipped, the angle kept",
    "outside_training": "an Einstein radius that the network was not trained on",
    "no_arcs": "there is more likely no arc than one: theta_E is a guess",
    "duplicate_id": "another file has the same name, perhaps in another folder",
}
"""Flags of rows with one."""

ELLIPTICITY_LIMIT = 0.999
"""|e| is clipped here: q = 0.022, the largest that still has a finite deflection."""

FIRST = parameters.THETA_E, parameters.EX, parameters.EY, parameters.X, parameters.Y
"""Numbers of every lens, as the table has them."""

PLACES = parameters.X, parameters.Y, *parameters.SOURCE
"""Numbers that are counted from the middle of an image."""

ENDINGS = {"p16": "16 %", "p84": "84 %", "sigma": "standard deviation"}
"""Of columns with the error of a number."""

DERIVED = (
    Parameter("q", "q", "", "$q$", "axis ratio of the mass"),
    Parameter(
        "phi", "phi_rad", "rad", r"$\phi$", "major axis of the mass, from +x towards +y"
    ),
)
"""What follows from them."""


def is_fatal(flags: Iterable[str]) -> bool:
    """Whether any of the flags means that the row has no prediction."""
    return any(flag not in WARNING for flag in flags)


def without(table: Table) -> int:
    """Number of rows that have no prediction."""
    return sum(map(is_fatal, object_table.flags_of(table)))


def summary(table: Table) -> str:
    """Say in a few lines how many rows have a prediction, and how many each flag."""
    missing = without(table)
    head = f"{len(table)} cutouts: {len(table) - missing} predicted, {missing} without"
    counts = table.meta["flags"]
    meaning = FATAL | WARNING
    lines = object_table.counted(counts, meaning, WARNING, "no prediction")
    return "\n".join([head, *lines])


def move(values: dict[str, Any], by: Any) -> None:
    """Count places, and their percentiles, from another middle: add `by` [arcsec]."""
    for place in parameters.names(PLACES):
        for name in (place, f"{place}_p16", f"{place}_p84"):
            if name in values:
                values[name] = values[name] + by


def check(
    values: dict[str, np.ndarray],
    flags: list[dict[str, str]],
    trained: tuple[float, float] | None = None,
) -> None:
    """Flag predictions that are no lens, in place; add q and phi.

    values: numbers (N,) by the names of a space.  theta_E <= 0 has no nearest lens: the
    row becomes NaN, the message keeps the number.  |e| >= 1 has: the same angle with
    |e| = ELLIPTICITY_LIMIT.  trained: between which theta_E [arcsec] the training was.
    """
    predicted = np.array([not is_fatal(row) for row in flags], dtype=bool)
    finite = np.isfinite(np.array([*values.values()])).all(0)
    lost = predicted & ~finite
    negative = predicted & finite & (values["theta_E"] <= 0)
    for k in np.flatnonzero(lost):
        flags[k]["nan_prediction"] = "the prediction is not finite: check the training"
    for k in np.flatnonzero(negative):
        flags[k]["unphysical_theta_E"] = (
            f"theta_E = {values['theta_E'][k]:.3g} arcsec predicted: no lens"
        )
    for column in values.values():
        column[lost | negative] = np.nan
    if trained is not None:
        low, high = trained
        with np.errstate(invalid="ignore"):
            strange = (values["theta_E"] < low) | (values["theta_E"] > high)
        for k in np.flatnonzero(strange):
            flags[k]["outside_training"] = (
                f"theta_E = {values['theta_E'][k]:.2f}, trained on {low:g} to {high:g} "
                "arcsec"
            )
    for k in np.flatnonzero(values.get("p_arc", np.ones(len(flags))) < 0.5):
        flags[k]["no_arcs"] = f"an arc with a probability of {values['p_arc'][k]:.2f}"
    e = np.hypot(values["ex"], values["ey"])
    steep = e > ELLIPTICITY_LIMIT
    for k in np.flatnonzero(steep):
        flags[k]["unphysical_ellipticity"] = f"|e| = {e[k]:.3g} predicted, clipped"
    with np.errstate(invalid="ignore"):
        factor = np.where(steep, ELLIPTICITY_LIMIT / np.where(steep, e, 1), 1)
    for name in ("ex", "ey"):
        values[name] = values[name] * factor
    mass = sie.SIE(*(values[name].astype(np.float32) for name in sie.SIE._fields))
    values["q"], values["phi"] = map(np.asarray, sie.axis_ratio(mass))


def made(
    ids: Sequence[str],
    paths: Sequence[str],
    values: dict[str, np.ndarray],
    flags: Sequence[dict[str, str]],
    space: Space,
    survey: Survey,
    model: dict,
) -> Table:
    """The table; arrays and flags as `check` leaves them, `model` for its meta.

    Beside the space's numbers: <name>_p16, _p84 and _sigma of each, source_x and
    source_y, cov_<a>_<b> of two, and p_arc, where there are such arrays.
    """
    others = [p for p in space if p not in WITHOUT_SHEAR]
    table = Table()
    table["id"] = Column(ids, dtype=object)
    sources = [p for p in parameters.SOURCE if p.name in values and p not in others]

    def add(column: str, name: str, unit: str, meaning: str) -> None:
        numbers = values[name].astype(np.float32)
        table[column] = Column(numbers, unit=unit or None, description=meaning)

    for p in (*FIRST, *others, *sources, *DERIVED):
        add(p.column, p.name, p.unit, p.meaning)
        for ending, what in ENDINGS.items():
            if f"{p.name}_{ending}" in values:
                name = f"{p.name}_{ending}"
                add(f"{p.column}_{ending}", name, p.unit, f"{p.meaning}: {what}")
    for name in values:
        if name.startswith("cov_"):
            add(name, name, "", "covariance, in the units of the two numbers")
    if "p_arc" in values:
        add("p_arc", "p_arc", "", "probability that there is an arc")
    object_table.add_words(table, flags, paths)
    table.meta = object_table.meta(flags, model=model, survey=survey._asdict())
    return table
