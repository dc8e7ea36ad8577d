"""Tables of a plain folder: which galaxies there are, and what is known of them.

No stamp is read here.  A row that names no galaxy or no file is left out and noted; a
number that no galaxy has is taken for unknown.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lensjax import photometry
from lensjax.catalogue import user_tables
from lensjax.catalogue.user_tables import (
    DISPERSION,
    MAGNITUDE,
    NOISE_VAR,
    REDSHIFT,
    Columns,
)
from lensjax.survey import Survey

SUFFIXES = (".csv", ".tsv", ".ecsv", ".parquet", ".fits")


class LensRows(NamedTuple):
    """Lens galaxies; N of them."""

    id: np.ndarray  # (N,) text
    file: list[Path]
    psf: np.ndarray | None  # (N,) a PSF's file, "" where none is named
    z: np.ndarray  # (N,) nan where unknown
    vdisp: np.ndarray  # (N,) [km/s], nan where unknown


class SourceRows(NamedTuple):
    """Source galaxies; N of them."""

    id: np.ndarray  # (N,) text
    file: list[Path]
    z: np.ndarray  # (N,) nan where unknown
    mag: np.ndarray  # (N, band) AB magnitudes, nan where unknown
    noise_var: np.ndarray  # (N,) variance of the stamp's pixels, nan where unknown
    lacks: list[str]  # why a source cannot be used, "" if it can


def find(folder: Path, name: str) -> Path | None:
    """The table lenses or sources of a folder, None if there is none.

    ValueError if there are several.
    """
    found = [p for p in (folder / f"{name}{s}" for s in SUFFIXES) if p.exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"data: {folder} has {names}: keep the one that is meant")
    return found[0] if found else None


def lenses(path: Path, notes: list[str]) -> LensRows:
    """The lens galaxies of a table; ValueError, with the remedy, where it is none."""
    table, rows, ids, files = _galaxies(path, "lens", notes)
    numbers = {}
    columns = (("z", REDSHIFT, ""), ("vdisp_kms", DISPERSION, "km/s"))
    for name, range_, unit in columns:
        values = _optional(table, name, unit)[rows]
        numbers[name], odd = range_.known(values, ids)
        notes += odd
    notes += user_tables.overlooked(table, ("id", "file", "z", "vdisp_kms", "psf"))
    psf = user_tables.has(table, "psf")
    return LensRows(
        ids,
        files,
        user_tables.words(table, "psf")[rows] if psf else None,
        numbers["z"],
        numbers["vdisp_kms"],
    )


def sources(path: Path, survey: Survey, notes: list[str]) -> SourceRows:
    """The sources of a table; ValueError, with the remedy, where it is none."""
    table, rows, ids, files = _galaxies(path, "source", notes)
    z = user_tables.numbers(table, "z", unit="")[rows]
    names, own = _magnitude_columns(table, survey)
    notes += user_tables.overlooked(table, ("id", "file", "z", "noise_var", *names))
    given = [user_tables.numbers(table, name, unit="mag")[rows] for name in names]
    given = np.stack(given, -1)
    mag = np.where(MAGNITUDE.holds(given), given, np.nan)
    if not own:
        notes.append(f"sources have HSC's magnitudes in {survey.name}'s bands")
        mag = np.asarray(photometry.in_bands(mag, survey))
    lacks = []
    for k in range(len(ids)):
        if not REDSHIFT.holds(z[k]):
            lacks.append(f"its redshift is {_said(z[k])}")
        elif not np.isfinite(mag[k]).all():
            odd = ", ".join(
                f"{name} is {_said(value)}"
                for name, value in zip(names, given[k], strict=True)
                if not MAGNITUDE.holds(value)
            )
            lacks.append(f"it has no {survey.name} magnitudes to colour it with: {odd}")
        else:
            lacks.append("")
    noise_var, odd = NOISE_VAR.known(_optional(table, "noise_var")[rows], ids)
    notes += odd
    return SourceRows(ids, files, z, mag, noise_var, lacks)


def _galaxies(
    path: Path, kind: str, notes: list[str]
) -> tuple[Columns, np.ndarray, np.ndarray, list[Path]]:
    """A table, its rows that name a galaxy and its file, and both names."""
    table = user_tables.read(path)
    ids, files = user_tables.texts(table, "id"), user_tables.words(table, "file")
    if not table.rows:
        raise ValueError(f"{path} lists no objects")
    if (again := user_tables.duplicates(ids)).any():
        raise ValueError(f"{path} lists the id {str(ids[again][0])!r} more than once")
    for row in range(table.rows):
        if not ids[row]:
            notes.append(f"row {row + 1} of {path.name} is left out: its id is blank")
        elif not files[row]:
            notes.append(f"{kind} {ids[row]} is left out: its file is blank")
    rows = np.flatnonzero((ids != "") & (files != ""))
    if not len(rows):
        raise ValueError(f"{path}: no {kind} has an id and a file: {notes[-1]}")
    return table, rows, ids[rows], [path.parent / str(file) for file in files[rows]]


def _optional(table: Columns, name: str, unit: str | None = None) -> np.ndarray:
    """A column of numbers, nan where it is blank or there is no such column."""
    if user_tables.has(table, name):
        return user_tables.numbers(table, name, unit=unit)
    return np.full(table.rows, np.nan)


def _magnitude_columns(table: Columns, survey: Survey) -> tuple[list[str], bool]:
    """Columns of the survey's own magnitudes, or, False, of HSC's in their place."""
    own = [f"{survey.name}_{band}".lower() for band in survey.bands]
    if all(user_tables.has(table, name) for name in own):
        return own, True
    hsc = [f"hsc_{band}" for band in "griz"]
    for name in own if survey.name == "HSC" else hsc:
        user_tables.named(table, name)  # an error that names the closest
    return hsc, False


def _said(value: float) -> str:
    return "blank" if np.isnan(value) else f"{value:g}"
