"""One object's cutout, read from a FITS file.

Layout: one file an object, one image extension a band named by EXTNAME (else by
FILTER), the cards PIXSCALE [arcsec] and MAGZERO (AB), and planes PSF and NOISE where
there are any.  Row 0 is the lowest y, column 0 the lowest x, and the centre of n pixels
is (n - 1) / 2.
"""

import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from lensjax.catalogue._fits_files import CutoutError, number, opened, plane

__all__ = ["Cutout", "CutoutError", "band_named", "number", "opened", "plane", "read"]

SCALE_TOLERANCE = 0.005  # 0.3 pixels over 64, and 0.5 % of theta_E

_GENERIC = {"", "IMAGE", "SCI", "SCIENCE", "DATA", "PRIMARY"}
_BAND = re.compile(r"(?:(?:HSC|DES|DECAM|LSST|SDSS|PS1|SUBARU)[-_. ]?)?([A-Z])[0-9]?")
_PLANE = re.compile(r"(PSF|NOISE)(?:[-_](.+))?|(.+)[-_](PSF|NOISE)")


class Cutout(NamedTuple):
    """One object as its file has it; every plane is (ny, nx) float32 and contiguous."""

    bands: dict[str, np.ndarray]  # in the order asked for, in the file's unit
    pixel_scale: float  # [arcsec]
    zero_point: dict[str, float | None]  # AB magnitude of one count; None: no card
    psf: dict[str, np.ndarray]  # by band, "" for one that serves all
    noise: dict[str, np.ndarray]
    facts: dict[str, Any]  # OBJECT, RA, DEC, FILTER, where the header has them
    warnings: dict[str, str]  # flag -> what a person should know


def read(
    path: str | os.PathLike, bands: Sequence[str] = ("G", "R", "I", "Z")
) -> Cutout:
    """Read one object's cutout.

    Bands go by name, in any order and case; HSC-G, HSC-R2, i2 and a FILTER card under
    a generic EXTNAME are understood, other bands in the file ignored.  Without PIXSCALE
    the scale is the WCS's (CD, or CDELT with PC); without both the file is refused.

    Compressed images, tiled or gzipped, are unpacked.

    Raises
    ------
    CutoutError
        With a flag of `quality.FATAL` and a message that names the file, the value and
        the remedy.
    """
    with opened(path) as hdus:
        return _cutout(hdus, tuple(b.upper() for b in bands))


# --- from HDUs to a cutout ------------------------------------------------------------


def _cutout(hdus: fits.HDUList, bands: tuple[str, ...]) -> Cutout:
    planes: dict[str, np.ndarray] = {}
    headers: dict[str, fits.Header] = {}
    extra: dict[str, dict[str, np.ndarray]] = {"PSF": {}, "NOISE": {}}
    seen, primary = [], hdus[0].header
    for hdu in hdus:
        if not hdu.is_image or hdu.header["NAXIS"] == 0:
            continue
        header = hdu.header
        name = str(header.get("EXTNAME", "")).strip().upper()
        if match := _PLANE.fullmatch(name):
            kind = match[1] or match[4]
            owner = band_named(match[2] or match[3] or "", bands) or ""
            extra[kind][owner] = plane(hdu, name)
            continue
        band = _band_of(header, name, bands)
        seen.append(band or name or "(no name)")
        if band not in bands:
            continue
        if band in planes:
            raise CutoutError("duplicate_band", f"band {band} stands twice: keep one")
        planes[band], headers[band] = plane(hdu, band), header
    if missing := [b for b in bands if b not in planes]:
        raise CutoutError(
            "missing_band",
            f"no band {', '.join(missing)} (found {', '.join(seen) or 'no image'}): "
            "name extensions by EXTNAME or FILTER, or use a network for these bands",
        )
    shapes = {b: planes[b].shape for b in bands}
    if len(set(shapes.values())) > 1:
        text = ", ".join(f"{b} {ny} x {nx}" for b, (ny, nx) in shapes.items())
        raise CutoutError("band_shape", f"{text}: cut all bands to one shape")
    warnings: dict[str, str] = {}
    scales = {b: _pixel_scale(headers[b], primary, warnings) for b in bands}
    scale = scales[bands[0]]
    if any(abs(s / scale - 1) > SCALE_TOLERANCE for s in scales.values()):
        raise CutoutError("pixel_scale", f"differs between bands: {scales}; resample")
    return Cutout(
        bands={b: planes[b] for b in bands},
        pixel_scale=scale,
        zero_point={b: _zero_point(headers[b], primary) for b in bands},
        psf=extra["PSF"],
        noise=extra["NOISE"],
        facts={
            key.lower(): h[key]
            for h in (headers[bands[0]], primary)
            for key in ("OBJECT", "RA", "DEC")
            if key in h
        },
        warnings=warnings,
    )


def band_named(name: str, bands: Sequence[str]) -> str | None:
    """Tell the band that a name means: itself, or the letter of HSC-R2, i2, des_g."""
    name = name.strip().upper()
    if name in bands:
        return name
    match = _BAND.fullmatch(name)
    return match[1] if match else None


def _band_of(header: fits.Header, name: str, bands: Sequence[str]) -> str | None:
    by_name = None if name in _GENERIC else band_named(name, bands)
    by_filter = band_named(str(header.get("FILTER", "")), bands)
    if by_name and by_filter and by_name != by_filter:
        raise CutoutError(
            "band_conflict", f"EXTNAME says {by_name}, FILTER {by_filter}: correct one"
        )
    return by_name or (by_filter if name in _GENERIC else None)


def _zero_point(header: fits.Header, primary: fits.Header) -> float | None:
    value = number(header, primary, "MAGZERO", "zero_point")
    if value is not None and not 0 < value < 50:
        raise CutoutError("zero_point", f"MAGZERO = {value:g} is no AB zero point")
    return value


def _pixel_scale(
    header: fits.Header, primary: fits.Header, warnings: dict[str, str]
) -> float:
    card = number(header, primary, "PIXSCALE", "pixel_scale")
    if card is not None and card <= 0:
        raise CutoutError(
            "pixel_scale", f"PIXSCALE = {card:g}: must be arcsec per pixel"
        )
    wcs = wcs_scale(header, warnings)
    if card is None and wcs is None:
        raise CutoutError(
            "pixel_scale", "no pixel scale: set PIXSCALE [arcsec per pixel], or a WCS"
        )
    if (
        card is not None
        and wcs is not None
        and abs(card / wcs - 1) > 2 * SCALE_TOLERANCE
    ):
        raise CutoutError(
            "pixel_scale",
            f"PIXSCALE = {card:g}, but the WCS has {wcs:.4g}: correct one",
        )
    return wcs if card is None else card


def wcs_scale(header: fits.Header, warnings: dict[str, str]) -> float | None:
    """Arcsec per pixel from CD, or CDELT with PC; None without a celestial WCS."""
    if not str(header.get("CTYPE1", "")).upper().startswith("RA"):
        return None
    cd = [[header.get(f"CD{i}_{j}") for j in (1, 2)] for i in (1, 2)]
    if all(v is None for row in cd for v in row):
        if "CDELT1" not in header or "CDELT2" not in header:
            return None
        cd = [
            [
                header[f"CDELT{i}"] * header.get(f"PC{i}_{j}", float(i == j))
                for j in (1, 2)
            ]
            for i in (1, 2)
        ]
    (a, b), (c, d) = [[float(v or 0) for v in row] for row in cd]
    x, y, area = math.hypot(a, c), math.hypot(b, d), a * d - b * c
    if not (x > 0 and y > 0) or abs(x / y - 1) > 0.01 or abs(area) < 0.99 * x * y:
        raise CutoutError("pixel_scale", "the WCS has no square pixels: resample")
    # the common orientation: north along +y, east along -x
    angle = math.degrees(math.atan2(b, d))
    if area > 0 or abs(angle) > 1:
        mirrored = " and mirrored" if area > 0 else ""
        warnings["orientation"] = (
            f"WCS rotated by {angle:.0f} deg{mirrored}: values are along the pixel axes"
        )
    return 3600 * math.sqrt(abs(area))
