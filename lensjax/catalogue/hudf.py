"""Source galaxies out of the Hubble Ultra Deep Field's mosaics, one at a time.

    h_udf_wfc_{b,v,i,z}_drz_img.fits   drizzled mosaics, counts per second
    a table of redshifts               Inami et al. (2017): see `read_redshifts`

The paper cuts 10 x 10 arcsec around each galaxy of known redshift and extracts it with
Source Extractor (Schuldt et al. 2021, sect. 2.2).  Here the four bands are summed,
weighted by their noise, blurred by 0.045 arcsec and cut into segments at two sigma;
the galaxy's is deblended, and all outside it becomes zero.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lensjax.catalogue import extraction, wcs
from lensjax.catalogue.mosaics import BANDS, Mosaics, open_mosaics
from lensjax.catalogue.redshifts import Redshifts, read_redshifts

__all__ = [
    "Galaxy",
    "Mosaics",
    "Redshifts",
    "Refused",
    "extract",
    "open_mosaics",
    "read_redshifts",
]

WINDOW = 10.0  # side of what is looked at [arcsec], as the paper's
REACH = 0.5  # between an entry and its galaxy's peak [arcsec]
THRESHOLD = 2.0  # of segments [noise of the blurred sum]
LEAST_SNR = 8.0  # in i; see benchmarks/source_noise.py
# A full well of 80,000 electrons in an exposure of 1200 s, on pixels of 0.03 arcsec.
SATURATION = 20.0  # [counts per second per pixel]
PLATEAU = 5  # so many pixels at exactly the brightest value are clipped
POINT = 0.085  # half-light radius below which it could be a star [arcsec]

REFUSALS = {
    "outside": "the entry lies outside the mosaics, or in their empty border",
    "no_data": "pixels without data beside the galaxy, or too few with data around it",
    "undetected": "no galaxy stands out of the noise at the entry's place",
    "blended": "another entry of the table lies closer to the same galaxy",
    "too_large": "the galaxy's light reaches the border of the 10 arcsec window",
    "faint": "signal to noise in i below 8: the stamp would be mostly noise",
}
"""Why there is no stamp of an entry."""

WARNINGS = {
    "off_peak": "the entry lies more than 0.5 arcsec from its galaxy's brightest pixel",
    "saturated": "pixels as bright as the detector's full well, or clipped",
    "point_like": "as compact as a star",
    "sky": "a local sky of more than the flux's noise was subtracted",
    "upper_limit": "a band's flux is below its noise: its magnitude is the noise's",
}
"""Flags of a galaxy."""


class Galaxy(NamedTuple):
    """A source galaxy cut out of the mosaics."""

    name: str  # its id in the table of redshifts
    ra: float  # of its brightest pixel in i [deg]
    dec: float
    z: float  # redshift
    image: np.ndarray  # (m, m, 4) float32, m odd, brightest in the middle [counts]
    mag: np.ndarray  # (4,) AB magnitude within its segment
    snr: float  # of the segment's flux in i
    flags: dict[str, str]  # of `WARNINGS` -> message


class Refused(ValueError):
    """An entry of which there is no stamp."""

    def __init__(self, name: str, flag: str, message: str):
        super().__init__(name, flag, message)
        self.name = name
        self.flag = flag  # a key of `REFUSALS`
        self.message = message

    def __str__(self) -> str:
        """Say which entry, and why."""
        return f"{self.name}: {self.message}"


def extract(
    mosaics: Mosaics, redshifts: Redshifts, index: int, zero_point: float = 27.0
) -> Galaxy:
    """The galaxy of one entry: row `index` of `redshifts`.

    Counts are at `zero_point`.  The outcome depends on these arguments alone, so that a
    caller may stop and go on at any object.  The galaxy's segment is the one around the
    entry, or that of the nearest peak within 0.5 arcsec; of two entries in one segment
    the one closer to its peak has it.  Its middle is the brightest pixel in i after a
    blur of 0.045 arcsec, about the PSF, so that a noisy pixel does not win.  The local
    sky, the median of undetected pixels, is subtracted where it is significant.

    Raises
    ------
    Refused
        With a flag of `REFUSALS`.
    """
    name, half = str(redshifts.id[index]), round(WINDOW / 2 / mosaics.pixel_scale)
    column, row = wcs.to_pixels(mosaics.wcs, redshifts.ra, redshifts.dec)
    places = np.stack([row, column], -1)
    corner, counts, empty = _window(mosaics, name, places[index], half, zero_point)
    places = places - corner

    found = _detect(name, counts, empty)
    reach = REACH / mosaics.pixel_scale
    segment = _segment(redshifts.id, index, found, places, reach)
    if (segment & ndimage.binary_dilation(empty, np.ones((3, 3)))).any():
        raise Refused(name, "no_data", "its light reaches pixels without data")
    if segment[[0, -1]].any() or segment[:, [0, -1]].any():
        raise Refused(name, "too_large", f"its light reaches {WINDOW:g} arcsec")

    counts = counts - (sky := _local_sky(found, counts, empty))
    area = np.count_nonzero(segment)
    flux, noise = counts[segment].sum(0), found.noise * np.sqrt(area)
    i = BANDS.index("i")
    snr = float(flux[i] / noise[i])
    if not snr >= LEAST_SNR:
        text = f"signal to noise {snr:.1f} in i, where {LEAST_SNR:g} is asked for"
        raise Refused(name, "faint", text)

    middle = extraction.peak(found.blurred[i], segment)
    flags = _flags(mosaics, counts, segment, middle, zero_point)
    if (away := extraction.distance(middle, places[index])) > reach:
        arcsec = away * mosaics.pixel_scale
        flags["off_peak"] = f"{arcsec:.2f} arcsec from its brightest pixel"
    if (moved := np.abs(sky) * area > noise).any():
        flags["sky"] = f"in {_names(moved)} a local sky beyond the flux's noise"
    if (dark := flux < noise).any():
        flags["upper_limit"] = f"flux below its noise in {_names(dark)}"
    ra, dec = wcs.to_sky(mosaics.wcs, *np.add(middle, corner)[::-1])
    return Galaxy(
        name=name,
        ra=float(ra),
        dec=float(dec),
        z=float(redshifts.z[index]),
        image=extraction.centred(counts.astype(np.float32), segment, middle),
        mag=zero_point - 2.5 * np.log10(np.maximum(flux, noise)),
        snr=snr,
        flags=flags,
    )


class _Found(NamedTuple):
    """What is detected in a window."""

    labels: np.ndarray  # (n, n) of segments
    total: np.ndarray  # (n, n) blurred sum of the bands
    total_noise: float
    blurred: np.ndarray  # (4, n, n) the bands
    noise: np.ndarray  # (4,) of one pixel, as it adds up over many


def _window(mosaics, name, place, half, zero_point):
    """Corner (row, column) of a window, its counts (n, n, 4), and its empty pixels."""
    shape = mosaics.planes[0].shape
    if not ((place > -0.5) & (place < np.subtract(shape, 0.5))).all():  # or nan
        raise Refused(name, "outside", "not on the mosaics")
    corner = np.rint(place).astype(int) - half
    low, high = np.maximum(corner, 0), np.minimum(corner + 2 * half + 1, shape)
    there = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    here = tuple(slice(*ends) for ends in zip(low - corner, high - corner, strict=True))
    counts = np.full((2 * half + 1, 2 * half + 1, len(BANDS)), np.nan)
    for k, plane in enumerate(mosaics.planes):
        counts[(*here, k)] = plane.mapped()[there] * _factor(mosaics, zero_point)[k]
    # drizzled mosaics are zero, or nan, where no exposure was
    empty = (~np.isfinite(counts) | (counts == 0)).any(-1)
    near = slice(half - 8, half + 9)
    if empty[near, near].mean() > 0.5:
        raise Refused(name, "outside", "in the mosaics' empty border")
    if empty.mean() > 0.75:
        raise Refused(name, "no_data", "three quarters of its window hold no data")
    return corner, np.where(empty[..., None], 0, counts), empty


def _factor(mosaics: Mosaics, zero_point: float) -> np.ndarray:
    """By band: from the mosaic's counts to those at `zero_point`."""
    return 10 ** (0.4 * (zero_point - np.array(mosaics.zero_points)))


def _detect(name: str, counts: np.ndarray, empty: np.ndarray) -> _Found:
    bands = [extraction.smooth(plane) for plane in np.moveaxis(counts, -1, 0)]
    skies = [extraction.sky(plane[~empty][::4]) for plane in bands]
    level, noise = np.array(skies).T
    if not (noise > 0).all():
        raise Refused(name, "no_data", "a band is constant around it")
    blurred = np.where(empty, 0, np.stack(bands) - level[:, None, None])
    total = np.tensordot(noise**-2, blurred, 1) / (noise**-2).sum()
    total_noise = extraction.sky(total[~empty][::4]).noise
    labels = extraction.segments(total, total_noise, THRESHOLD)
    return _Found(labels, total, total_noise, blurred, noise * extraction.AVERAGING)


def _segment(ids, index, found, places, reach) -> np.ndarray:
    """Which pixels (bool) are the galaxy of entry `index`."""
    name = str(ids[index])

    def label_at(labels, place):
        return extraction.own(labels, found.total, place, reach)

    parent = label_at(found.labels, places[index])
    if not parent:
        raise Refused(name, "undetected", "nothing stands out of the noise there")
    labels = extraction.deblend(found.labels, found.total, parent, found.total_noise)
    label = label_at(labels, places[index])
    segment = labels == label
    peak = extraction.peak(found.total, segment)
    away = extraction.distance(peak, places[index])
    if not label or away > max(reach, np.sqrt(np.count_nonzero(segment) / np.pi) / 2):
        text = "it lies in the outskirts of another galaxy, away from all peaks"
        raise Refused(name, "undetected", text)

    in_window = ((places >= 0) & (places < segment.shape)).all(-1)
    for other in np.flatnonzero(in_window):
        rival = extraction.distance(peak, places[other])
        if (rival, other) < (away, index) and label_at(labels, places[other]) == label:
            raise Refused(
                name, "blended", f"entry {ids[other]} is closer to the galaxy"
            )
    return segment


def _local_sky(found: _Found, counts: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """By band: the median of undetected pixels, zero where it is none to speak of."""
    away = ~ndimage.binary_dilation(found.labels > 0, iterations=5) & ~empty
    if (area := np.count_nonzero(away)) < 1000:
        return np.zeros(len(BANDS))
    level = np.median(counts[away], axis=0)
    error = np.sqrt(np.pi / 2 / area) * found.noise
    return np.where(np.abs(level) > 3 * error, level, 0)


def _flags(mosaics, counts, segment, middle, zero_point) -> dict[str, str]:
    """What looks odd about the galaxy's core."""
    flags = {}
    pixels = counts[segment] / _factor(mosaics, zero_point)
    peak = pixels.max(0)
    clipped = (pixels == peak).sum(0) >= PLATEAU
    if (bright := clipped | (peak > SATURATION)).any():
        flags["saturated"] = f"up to {peak.max():.3g} counts/s in {_names(bright)}"
    distance = np.hypot(*(np.argwhere(segment) - middle).T)
    order = np.argsort(distance)
    light = np.cumsum(counts[segment][order, BANDS.index("i")])
    half = distance[order][np.argmax(light >= light[-1] / 2)] * mosaics.pixel_scale
    if half < POINT:
        flags["point_like"] = f"half of its light within {half:.3f} arcsec"
    return flags


def _names(chosen: np.ndarray) -> str:
    return ", ".join(band for band, yes in zip(BANDS, chosen, strict=True) if yes)
