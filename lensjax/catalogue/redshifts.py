"""Spectroscopic redshifts of source galaxies, from a table as archives give it.

Columns of Inami et al. (2017, A&A 608, A2), table A.1 (MUSE_ID, RA, DEC, Z_MUSE,
CONFID) and of VizieR's copy J/A+A/608/A2 (RAJ2000, DEJ2000, zMuse) are known, besides
plain id, ra, dec, z; case does not matter.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.coordinates import Angle

from lensjax.catalogue import user_tables
from lensjax.catalogue.user_tables import REDSHIFT, Columns

ID = ("MUSE_ID", "MUSE", "ID", "name")
RA = ("RA", "RAJ2000", "RAdeg", "_RAJ2000", "RA_ICRS")
DEC = ("DEC", "DEJ2000", "DEdeg", "_DEJ2000", "DE_ICRS")
Z = ("Z_MUSE", "zMuse", "z_spec", "zspec", "redshift", "z")
CONFIDENCE = ("CONFID", "Conf", "confidence", "zconf", "q_zMuse", "f_zMuse")
LEAST_CONFIDENCE = 2  # of 1 to 3: a secure redshift, as Inami et al. have it
SAME_REDSHIFT = 0.01  # rows of one id that agree so well say the same
FIELD = (53.16, -27.79)  # of the HUDF [deg]
_UNKNOWN = re.compile(r"|-?9+(\.9*)?|0(\.0*)?")  # among sexagesimal text
CUT_SHORT = (
    "rows in all, exactly VizieR's default limit: the table is probably cut short, ask "
    "for it without limit"
)
UNKNOWN_CONFIDENCE = (
    "rows taken for secure: there is no confidence, name its column CONFID"
)


class Redshifts(NamedTuple):
    """Galaxies whose redshift is known; arrays (n,)."""

    id: np.ndarray  # text
    ra: np.ndarray  # [deg]
    dec: np.ndarray  # [deg]
    z: np.ndarray


def read_redshifts(path: str | Path) -> tuple[Redshifts, dict[str, int]]:
    """Usable rows of a table of redshifts, and counts of the others by reason.

    FITS, ECSV, Parquet, CSV, or VizieR's tab-separated text.  Positions are degrees, or
    sexagesimal text.  The counts also hold what a user should know of the table as a
    whole, such as exactly 50 rows.  Of rows with one id the first is kept if all agree
    within 0.01, else none.  Raises ValueError, naming file and remedy, for a table that
    cannot be used.
    """
    table = user_tables.read(path)
    ids = user_tables.texts(table, *ID)
    ra = _degrees(table, RA, 15)
    dec = _degrees(table, DEC, 1)
    z = user_tables.numbers(table, *Z, unit="")
    known = _known_positions(table.path, ra, dec)
    high = np.isfinite(z) & (z > REDSHIFT.most)

    reasons = {
        "without an id": ids == "",
        "without a position": ~known,
        "redshift unknown, or zero or less": ~(REDSHIFT.holds(z) | high),
        f"redshift above {REDSHIFT.most:g}": high,
    }
    remarks = {}
    if user_tables.has(table, *CONFIDENCE):
        confidence = user_tables.numbers(table, *CONFIDENCE)
        reasons[f"confidence below {LEAST_CONFIDENCE}, or unknown"] = ~(
            user_tables.CONFIDENCE.holds(confidence) & (confidence >= LEAST_CONFIDENCE)
        )
    elif table.rows:
        remarks[UNKNOWN_CONFIDENCE] = table.rows
    if table.rows == user_tables.FEW_ROWS:
        remarks[CUT_SHORT] = table.rows

    usable, counts = np.ones(table.rows, bool), {}
    for reason, bad in reasons.items():
        counts[reason] = int((usable & bad).sum())
        usable &= ~bad
    again, torn = _repeated(ids, z, usable)
    counts["the same id and redshift again"] = int(again.sum())
    counts["ids with more than one redshift"] = int(torn.sum())
    usable &= ~(again | torn)
    found = Redshifts(ids[usable], ra[usable] % 360, dec[usable], z[usable])
    return found, {key: n for key, n in counts.items() if n} | remarks


def _repeated(ids, z, usable) -> tuple[np.ndarray, np.ndarray]:
    """Rows that repeat an earlier one, and rows that contradict one with their id."""
    again, torn = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(usable):
        rows.setdefault(str(ids[row]), []).append(row)
    for same in rows.values():
        if np.ptp(z[same]) > SAME_REDSHIFT:
            torn[same] = True
        else:
            again[same[1:]] = True
    return again, torn


def _degrees(table: Columns, names: tuple[str, ...], factor: float) -> np.ndarray:
    """A column of angles; text such as 03 32 39.0 counts `factor` degrees a unit."""
    cells = user_tables.named(table, *names)
    if cells.dtype.kind in "iuf":
        return user_tables.numbers(table, *names, unit="deg")
    text = [str(cell).strip() for cell in cells.filled("")]
    if not any(re.fullmatch(r"[-+]?\d+[ :]\d+[ :].*", t) for t in text):
        return user_tables.numbers(table, *names, unit="deg")
    out = np.full(len(text), np.nan)
    for row, t in enumerate(text):
        try:
            if _UNKNOWN.fullmatch(t):
                out[row] = float(t or "nan")
            else:
                out[row] = Angle(t, "deg").deg * factor
        except ValueError as error:
            raise ValueError(
                f"{table.path}: column {names[0]} has {t!r} in row {row + 1}, which is "
                "no angle"
            ) from error
    return out


def _known_positions(path: str, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Which positions are known; raises where ra is in hours, or swapped with dec."""
    known, row = user_tables.on_the_sky(ra, dec, -180)
    good = known if known.any() else np.isfinite(ra) & np.isfinite(dec)
    if not good.any():
        return known
    place = (
        f"{path}: ra is about {np.median(ra[good]):.4g}, dec {np.median(dec[good]):.4g}"
    )
    if _in_field(ra[good] * 15, dec[good]):
        raise ValueError(f"{place}: ra in hours? Multiply it by 15")
    if _in_field(dec[good], ra[good]) or row is not None and abs(dec[row]) > 90:
        raise ValueError(f"{place}: ra and dec swapped? Give both in degrees")
    if row is not None:
        raise ValueError(f"{place}: ra must be in degrees, 0 to 360")
    return known


def _in_field(ra: np.ndarray, dec: np.ndarray) -> bool:
    place = (np.median([ra, dec], axis=1) + 180) % 360 - 180
    return bool((np.abs(place - FIELD) < 1).all())
