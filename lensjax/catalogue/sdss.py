"""Redshifts and velocity dispersions of galaxies, from a table of SDSS spectra.

What CasJobs gives for specObjID, ra, dec, z, zErr, zWarning, velDisp, velDispErr, or a
specObj file, whose columns are PLUG_RA, PLUG_DEC, VDISP and VDISP_ERR.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from lensjax.catalogue import user_tables
from lensjax.catalogue.user_tables import DISPERSION, REDSHIFT

VDISP_LEAST = 70.0  # [km/s] the instrument's limit
VDISP_MOST = 600.0  # [km/s] no galaxy's; the pipeline's fit stops at 850


class Spectra(NamedTuple):
    """Galaxies with a redshift and a dispersion that can be used; N of them."""

    id: np.ndarray  # (N,) str, specObjID
    ra: np.ndarray  # (N,) [deg]
    dec: np.ndarray  # (N,) [deg]
    z: np.ndarray  # (N,) redshift
    vdisp: np.ndarray  # (N,) velocity dispersion [km/s]


def read(path: str | Path | Table) -> tuple[Spectra, dict[str, int]]:
    """Spectra in a table, and how many rows were left out for which reason.

    A row counts for the first reason that applies; f"{count} {reason}" reads as a
    sentence.  What a person should look at but leaves nothing out is among them, too.
    Raises ValueError, with the remedy, for a table without the columns, positions that
    are no degrees, or ids that went through floats.
    """
    table = user_tables.read(path)
    ids = user_tables.texts(table, "specObjID")
    ra, dec, odd = user_tables.positions(table, ("ra", "plug_ra"), ("dec", "plug_dec"))
    z = user_tables.numbers(table, "z", unit="")
    warning = user_tables.flags(table, "zWarning")
    vdisp = user_tables.numbers(table, "velDisp", "vdisp", unit="km/s")
    error = user_tables.numbers(table, "velDispErr", "vdisp_err", unit="km/s")
    blank = (ids == "") | ~np.isfinite(ra + dec + warning)
    reasons = {
        "with a blank id, position or zWarning": blank,
        "with an id that stood before": user_tables.duplicates(ids),
        "with zWarning other than 0": warning != 0,
        f"with a redshift above {REDSHIFT.most:g}": z > REDSHIFT.most,
        "without a positive redshift": ~REDSHIFT.holds(z),
        "without a fit of the dispersion (velDispErr is 0, negative or blank)": ~(
            (error > 0) & np.isfinite(error + vdisp)
        ),
        "with a velDisp or velDispErr that stands for unknown, such as 99 or 999": (
            DISPERSION.is_placeholder(vdisp)
            | DISPERSION.is_placeholder(error)
            | (error > VDISP_MOST)
        ),
        f"with velDisp below {VDISP_LEAST:g} km/s, the instrument's limit": (
            vdisp < VDISP_LEAST
        ),
        f"with velDisp above {VDISP_MOST:g} km/s": vdisp > VDISP_MOST,
    }
    good, counts = np.ones(len(ids), bool), {}
    for reason, out in reasons.items():
        if count := int((good & out).sum()):
            counts[reason] = count
        good &= ~out
    if odd:
        counts[f"in all, {odd}"] = len(ids)
    if len(ids) == user_tables.FEW_ROWS:
        counts["in all, VizieR's default limit: see that the table was not cut"] = 50
    return Spectra(*(column[good] for column in (ids, ra, dec, z, vdisp))), counts


def match(
    ra: np.ndarray, dec: np.ndarray, spectra: Spectra, radius: float = 1.0
) -> np.ndarray:
    """Index of the nearest spectrum within `radius` [arcsec] of each position [deg].

    -1 where there is none or the position is not finite.
    """
    ra, dec = (
        np.atleast_1d(np.asarray(ra, float)),
        np.atleast_1d(np.asarray(dec, float)),
    )
    index = np.full(ra.shape, -1)
    known = np.isfinite(ra + dec)
    nearest, apart = _nearest(ra[known], dec[known], spectra)
    index[known] = np.where(apart <= radius, nearest, -1)
    return index


def separation(ra: np.ndarray, dec: np.ndarray, spectra: Spectra) -> float:
    """Least distance [arcsec] between positions [deg] and spectra; infinite if none."""
    known = np.isfinite(ra + dec)
    _, apart = _nearest(ra[known], dec[known], spectra)
    return float(apart.min(initial=np.inf))


def _nearest(ra, dec, spectra: Spectra) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest spectrum of each position, and how far it is [arcsec]."""
    if not len(spectra.ra):  # nothing to match with is an error there
        return np.full(ra.shape, -1), np.full(ra.shape, np.inf)
    there = SkyCoord(spectra.ra, spectra.dec, unit=units.deg)
    here = SkyCoord(ra, dec, unit=units.deg)
    nearest, apart, _ = here.match_to_catalog_sky(there)
    return nearest, apart.arcsec
