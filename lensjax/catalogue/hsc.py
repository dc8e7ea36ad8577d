"""Lens galaxies from an HSC archive: what its cutout service and its PSF picker give.

`find` says which files belong to an object, `read` makes a galaxy of them, ready for a
catalogue, and `upload_list` writes the lists that order them.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from lensjax.catalogue import _one_grid, quality, wcs
from lensjax.catalogue._flags import note
from lensjax.catalogue._one_grid import Place
from lensjax.catalogue.cutouts import CutoutError
from lensjax.catalogue.hsc_files import Files, find
from lensjax.catalogue.hsc_hdus import Band, read_band, read_psf, turned
from lensjax.catalogue.hsc_lists import upload_list
from lensjax.survey import Survey

__all__ = ["Files", "Galaxy", "find", "read", "upload_list"]

# In a coadd one exposure's cosmic ray sets the bit: a few pixels mean nothing.
SUSPECT_FRACTION = 0.05
SMALL = 20.0  # [arcsec] corners of a smaller cutout hold lens light
AWAY = 60.0  # [arcsec] a PSF of a place farther off is another object's
CORNER = 0.5  # share of a corner's pixels that must be good

# position in the name of a PSF: ...-150.17282--2.60907, ..._150.17282_-2.60907_9813...
_PLACE = re.compile(r"[-_](\d+\.\d+)[-_]([-+]?\d+\.\d+)(?=_|\.fit)")


class Galaxy(NamedTuple):
    """A lens galaxy as the archive has it, ready for a catalogue."""

    name: str
    ra: float  # of the cutout's centre, by its WCS; nan without one [deg]
    dec: float
    image: np.ndarray  # (n, n, band) float32 counts, n = image_size + 2 * margin
    psf: np.ndarray  # (41, 41, band) float32 effective PSF, centred, sum 1
    background: np.ndarray  # (band,) float32 RMS by the corner rule, whole cutout
    flags: dict[str, str]  # warnings of `quality.WARNING` -> message


def read(files: Files, survey: Survey, margin: int = 4) -> Galaxy:
    """Read, align, crop and check one object.

    The crop of n pixels begins, as in `quality.prepare`, at pixel (nx - n) // 2 of the
    detection band's cutout: for nx - n odd its centre lies half a pixel below the
    cutout's, in y likewise.  Other bands are cropped to the same pixels of the sky by
    their WCS; without one in any band all must have one shape.  Bands that are stored
    upside down, mirrored or by quarter turns differently are turned, with mask,
    variance and PSF, to the one with north up and east left, else to that of most bands
    (flag `aligned`).

    Raises CutoutError, with a flag of `quality.FATAL` and a message that names object,
    value and remedy, for whatever forbids the object.
    """
    try:
        return _galaxy(files, survey, margin)
    except CutoutError as error:
        raise CutoutError(error.flag, f"{files.name}: {error}") from None


def _galaxy(files: Files, survey: Survey, margin: int) -> Galaxy:
    flags: dict[str, str] = {}
    for flag, have in (("missing_band", files.bands), ("missing_psf", files.psf)):
        if missing := [b for b in survey.bands if b not in have]:
            text = f"no file for {', '.join(missing)}"
            raise CutoutError(flag, f"{text}: fetch it, or leave the object out")
    bands = [read_band(files.bands[b], b, survey, flags) for b in survey.bands]
    n = survey.image_size + 2 * margin
    middle = bands[survey.detection]
    ra, dec = _centre(middle, survey, flags)
    leader, places = _places(bands, middle, n, flags)
    bands = [turned(band, places[band.name].turn) for band in bands]
    middle = bands[survey.detection]
    windows = [_window(band, middle, places, n, flags) for band in bands]
    image = np.stack([b.image[w] for b, w in zip(bands, windows, strict=True)], -1)
    for band, window in zip(bands, windows, strict=True):
        _check_mask(band, window, survey, flags)
    for flag, text in quality.check(image, survey).items():
        if quality.is_fatal([flag]):
            if flag == "wrong_units":  # its remedy is another archive's card
                text += " (here FLUXMAG0 = 10^(0.4 zero point))"
            raise CutoutError(flag, f"{quality.FATAL[flag]}: {text}")
        note(flags, flag, text)
    psf = []
    for band in bands:
        path = files.psf[band.name]
        _check_place(path.name, ra, dec)
        psf.append(read_psf(path, band.name, survey, flags, band.grid, leader))
    background = [_background(band) for band in bands]
    if (side := min(middle.image.shape) * survey.pixel_scale) < SMALL:
        flags["small_cutout"] = (
            f"{side:.1f} arcsec: the background is taken from corners with lens light "
            "in them; order 40 arcsec (sw = sh = 20asec)"
        )
    return Galaxy(
        files.name,
        ra,
        dec,
        np.ascontiguousarray(image),
        np.ascontiguousarray(np.stack(psf, -1)),
        np.array(background, np.float32),
        flags,
    )


# --- the same pixels of the sky -------------------------------------------------------


def _centre(band: Band, survey: Survey, flags: dict[str, str]) -> tuple[float, float]:
    if band.grid is None:
        flags["no_wcs"] = f"{survey.pixel_scale:g} arcsec per pixel are assumed"
        return math.nan, math.nan
    if band.grid.lacks:
        flags["no_wcs"] = f"the WCS lacks {band.grid.lacks}: no position"
        return math.nan, math.nan
    ny, nx = band.image.shape
    ra, dec = wcs.to_sky(band.grid.wcs, (nx - 1) / 2, (ny - 1) / 2)
    return float(ra), float(dec)


def _places(
    bands: list[Band], middle: Band, n: int, flags: dict[str, str]
) -> tuple[wcs.Grid | None, dict[str, Place]]:
    """The grid that all are brought to, and where the bands lie on it, by name."""
    grids = _one_grid.known({band.name: band.grid for band in bands})
    if not grids:
        for band in bands:
            if band.image.shape != middle.image.shape:
                text = f"{band.name} is {band.image.shape}, {middle.name} "
                text += f"{middle.image.shape}, and no WCS: cut to one shape"
                raise CutoutError("band_shape", text)
        return None, {band.name: Place(_one_grid.SAME, 0.0, 0.0, 0.0) for band in bands}
    leader = _one_grid.reference(grids, middle.name)
    if text := wcs.orientation(grids[leader]):
        flags["orientation"] = text
    places = {}
    for band, grid in grids.items():
        place = _one_grid.place(band, grid, leader, grids[leader], (n / 2, n / 2))
        if place.turn != _one_grid.SAME:
            note(flags, "aligned", f"{band} {_one_grid.how(place.turn)} as {leader} is")
        places[band] = place
    return grids[leader], places


def _window(
    band: Band, middle: Band, places: dict[str, Place], n: int, flags: dict[str, str]
) -> tuple[slice, slice]:
    """Where the crop lies in this band, turned."""
    ny, nx = middle.image.shape
    here, there = places[band.name], places[middle.name]
    shift = here.dx - there.dx, here.dy - there.dy
    x, y = _one_grid.whole(band.name, *shift, here.bend, middle.name, flags)
    x, y = (nx - n) // 2 + x, (ny - n) // 2 + y
    by, bx = band.image.shape
    if x < 0 or y < 0 or x + n > bx or y + n > by:
        text = f"{band.name}: got {by} x {bx}, need {n} x {n} about the object"
        raise CutoutError("too_small", f"{text}: order larger cutouts")
    return slice(y, y + n), slice(x, x + n)


def _check_place(name: str, ra: float, dec: float) -> None:
    """Refuse a PSF whose name has a position elsewhere than the cutout."""
    match = _PLACE.search(name)
    if match is None or math.isnan(ra):
        return
    dra = (float(match[1]) - ra + 180) % 360 - 180
    away = 3600 * math.hypot(dra * math.cos(math.radians(dec)), float(match[2]) - dec)
    if away > AWAY:
        raise CutoutError(
            "other_place",
            f"{name} is the PSF of a place {away:.0f} arcsec off the cutout's "
            f"({ra:.5f}, {dec:.5f}): see which files go together",
        )


# --- mask and background --------------------------------------------------------------


def _check_mask(band: Band, window, survey: Survey, flags: dict[str, str]) -> None:
    """Refuse a crop that is masked too much, or in the lens; flag doubtful pixels."""
    bad, no_variance = band.bad[window], band.no_variance[window]
    n = bad.shape[0]
    offset = (np.arange(n) - (n - 1) / 2) * survey.pixel_scale
    near = np.hypot(offset, offset[:, None]) < quality.LENS_RADIUS
    if (share := (bad | no_variance).mean()) > quality.MASKED_FRACTION:
        text = f"{band.name} {share:.0%} of the pixels are bad by mask or variance"
        raise CutoutError("masked", f"{text}: leave the object out")
    for flag, what in (("saturated", band.saturated[window]), ("masked", bad)):
        if count := int((what & near).sum()):
            raise CutoutError(
                flag,
                f"{band.name} has {count} {flag} pixels within "
                f"{quality.LENS_RADIUS:g} arcsec of the centre: leave the object out",
            )
    if no_variance.any():
        note(flags, "bad_variance", f"{band.name} {no_variance.sum()} pixels")
    shares = {name: plane[window].mean() for name, plane in band.suspect.items()}
    if many := [f"{k} {v:.0%}" for k, v in shares.items() if v > SUSPECT_FRACTION]:
        note(flags, "suspect_pixels", f"{band.name} {', '.join(many)}")


def _background(band: Band) -> float:
    """RMS by the corner rule of `photometry.background_rms`, of good pixels alone."""
    image, good = band.image, np.isfinite(band.image) & ~band.bad
    ky, kx = (round(0.1 * side) for side in image.shape)
    corners = [
        (image[rows, columns], good[rows, columns])
        for rows in (slice(ky), slice(-ky, None))
        for columns in (slice(kx), slice(-kx, None))
    ]
    usable = [a[ok].astype(float) for a, ok in corners if ok.mean() > CORNER]
    if not usable:
        text = f"{band.name}: no corner of the cutout has data to measure the sky in"
        raise CutoutError("masked", f"{text}: leave the object out")
    return float(min(usable, key=np.max).std())
