"""The Hubble Ultra Deep Field's four mosaics, opened but not read.

A mosaic has 440 MB: it is mapped into memory, and only the pixels that are looked at
are read from the disk.
"""

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lensjax.catalogue import wcs as _wcs

BANDS = ("b", "v", "i", "z")  # stand for a survey's g r i z
FILTERS = {"b": "F435W", "v": "F606W", "i": "F775W", "z": "F850LP"}
ZERO_POINTS = {"b": 25.673, "v": 26.486, "i": 25.654, "z": 24.862}  # of March 2004
ZERO_POINT_TOLERANCE = 0.05  # between a header and these [mag]
SHIFT = 0.5  # that the bands' WCS may differ by [pixel]

_NO_IMAGE = {"wht", "weight", "rms", "err", "exp", "ctx", "seg", "mask", "masks"}


class Plane(NamedTuple):
    """Where the pixels of one band are on the disk; small, so processes may pass it."""

    path: Path
    dtype: str
    start: int  # [byte]
    shape: tuple[int, int]  # ny, nx

    def mapped(self) -> np.memmap:
        """The pixels [counts/s], mapped into memory: read when they are looked at."""
        return np.memmap(self.path, self.dtype, "r", self.start, self.shape)


class Mosaics(NamedTuple):
    """The field in four bands, on one grid of pixels."""

    planes: tuple[Plane, ...]  # by `BANDS`
    wcs: WCS  # for `wcs.to_pixels` and `wcs.to_sky`: its axes need not be RA and Dec
    pixel_scale: float  # [arcsec]
    zero_points: tuple[float, ...]  # AB magnitude of one count per second
    notes: tuple[str, ...]  # for the user to read


def open_mosaics(source: str | Path | Mapping[str, str | Path]) -> Mosaics:
    """Open a folder's mosaics, or files by band (b, v, i, z or F435W ...).

    Files of a folder go by the band in their name, or else by their FILTER cards.  Only
    uncompressed floats can be memory-mapped: others are refused, with the remedy.  Zero
    points are those of PHOTFLAM and PHOTPLAM in the header, else the published ones.
    Raises ValueError, naming file and remedy, for mosaics that do not fit together.
    """
    paths = _by_band(source)
    if missing := [f"{b} ({FILTERS[b]})" for b in BANDS if b not in paths]:
        found = ", ".join(f"{b}: {path.name}" for b, path in paths.items()) or "none"
        raise ValueError(
            f"{source}: no mosaic in {', '.join(missing)} (found {found}): name files "
            "as h_udf_wfc_b_drz_img.fits, or set FILTER"
        )
    found = [_find(paths[band]) for band in BANDS]
    planes = tuple(one.plane for one in found)
    headers = [one.header for one in found]
    for band, header in zip(BANDS, headers, strict=True):
        if (said := _filter(header)) not in ("", FILTERS[band]):
            raise ValueError(
                f"{paths[band]} is {FILTERS[band]} by name, but {said} by its header: "
                "correct the name or the FILTER cards"
            )
    if len({plane.shape for plane in planes}) > 1:
        shapes = ", ".join(
            f"{b} {ny} x {nx}"
            for b, (ny, nx) in zip(BANDS, (p.shape for p in planes), strict=True)
        )
        raise ValueError(f"{source}: {shapes}: drizzle all bands onto one grid")
    wcs, scale = _common_wcs(found)
    notes: list[str] = []
    zero_points = tuple(
        _zero_point(header, band, notes)
        for band, header in zip(BANDS, headers, strict=True)
    )
    return Mosaics(planes, wcs, scale, zero_points, tuple(notes))


def _by_band(source: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    if isinstance(source, Mapping):
        paths: dict[str, Path] = {}
        for key, path in source.items():
            band = _band_of_name(str(key))
            if band is None or band in paths:
                raise ValueError(
                    f"band {key!r} is not one of b, v, i, z, or stands twice"
                )
            paths[band] = Path(path)
        return {band: paths[band] for band in BANDS if band in paths}
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that holds the mosaics")
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*.fits*")):
        words = set(re.split("[^a-z0-9]+", path.name.lower()))
        if words & _NO_IMAGE:
            continue
        band = _band_of_name(path.name) or _band_of_filter(path)
        if band in paths:
            raise ValueError(
                f"{folder}: {paths[band].name} and {path.name} are both in {band}: "
                "move one away, or give the files by band"
            )
        if band:
            paths[band] = path
    return {band: paths[band] for band in BANDS if band in paths}


def _band_of_name(name: str) -> str | None:
    """The band that a word of the name means, if just one does."""
    words = set(re.split("[^a-z0-9]+", name.lower()))
    by_filter = {b for b, f in FILTERS.items() if f.lower() in words}
    found = by_filter or words & set(BANDS)
    return found.pop() if len(found) == 1 else None


def _band_of_filter(path: Path) -> str | None:
    try:
        said = _filter(_find(path).header)
    except ValueError:  # another kind of file
        return None
    return next((b for b, f in FILTERS.items() if f == said), None)


def _filter(header: fits.Header) -> str:
    """The filter that FILTER, FILTER1 or FILTER2 names, which may be clear; or ""."""
    cards = (str(header.get(f"FILTER{n}", "")).upper() for n in ("", 1, 2))
    named = (re.search(r"F\d{3}[A-Z]+", card) for card in cards)
    return next((match[0] for match in named if match), "")


class _Found(NamedTuple):
    """A file's first image."""

    plane: Plane
    header: fits.Header  # with the primary's cards, where it has none of its own
    own: fits.Header
    primary: fits.Header


def _find(path: Path) -> _Found:
    """Find a file's first image."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if packed:
            raise ValueError("is gzipped, and cannot be memory-mapped: gunzip it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is checked below
            with fits.open(path, memmap=True) as hdus:
                number = next(
                    (n for n, h in enumerate(hdus) if h.is_image and len(h.shape) == 2),
                    None,
                )
                if number is None:
                    raise ValueError("holds no image: is it a mosaic?")
                hdu = hdus[number]
                own, primary = hdu.header.copy(), hdus[0].header.copy()
                header = own.copy()
                header.extend(primary, unique=True)
                shape, start = hdu.shape, hdu.fileinfo()["datLoc"]
                compressed = isinstance(hdu, fits.CompImageHDU)
    except OSError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: {text}; fetch it again") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    scaled = header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0
    if compressed or scaled or header["BITPIX"] > 0:
        raise ValueError(
            f"{path} is compressed or holds scaled integers, and cannot be "
            "memory-mapped: write it as 32-bit floats (funpack, or astropy's "
            "fits.writeto of its data as float32)"
        )
    size, need = path.stat().st_size, start - header["BITPIX"] // 8 * math.prod(shape)
    if size < need:
        raise ValueError(f"{path} has {size} of {need} bytes: fetch it again")
    plane = Plane(path, f">f{-header['BITPIX'] // 8}", start, shape)
    return _Found(plane, header, own, primary)


def _common_wcs(found: list[_Found]) -> tuple[WCS, float]:
    """The WCS that all have, and its pixels' side [arcsec]."""
    grids = []
    for plane, _, own, primary in found:
        try:
            grid = _wcs.read(own, primary, plane.shape)
        except ValueError as error:
            raise ValueError(f"{plane.path}: {error}") from None
        if grid is None or grid.lacks:
            lack = f"its WCS lacks {grid.lacks}" if grid else "it has no WCS"
            raise ValueError(f"{plane.path}: {lack}: without it no galaxy can be found")
        grids.append(grid)
    first, (ny, nx) = grids[0], grids[0].shape
    x, y = np.array([0, nx, 0, nx, nx / 2]), np.array([0, 0, ny, ny, ny / 2])
    sky = _wcs.to_sky(first.wcs, x, y)
    path = found[0].plane.path
    for (plane, *_), grid in zip(found, grids, strict=True):
        there = _wcs.to_pixels(grid.wcs, *sky)
        off = np.hypot(there[0] - x, there[1] - y).max()
        if not off < SHIFT:
            raise ValueError(
                f"{plane.path}: its WCS is {off:.1f} pixels off that of {path.name}: "
                "drizzle all bands onto one grid"
            )
    if not 0.01 < first.scale < 0.1:
        raise ValueError(
            f"{path} has pixels of {first.scale:.3g} arcsec, not of 0.01 to 0.1: "
            "resample"
        )
    return first.wcs, first.scale


def _zero_point(header: fits.Header, band: str, notes: list[str]) -> float:
    unit = str(header.get("BUNIT", "")).strip()
    if unit and "/" not in unit and "S-1" not in unit.upper().replace("**", ""):
        notes.append(f"{band}: BUNIT is {unit!r}, taken for counts per second")
    flam, plam = header.get("PHOTFLAM"), header.get("PHOTPLAM")
    try:
        known = float(flam) > 0 and float(plam) > 0
    except (TypeError, ValueError):
        known = False
    if not known:
        notes.append(
            f"{band}: no PHOTFLAM and PHOTPLAM, so zero point {ZERO_POINTS[band]}"
        )
        return ZERO_POINTS[band]
    zero_point = float(-2.5 * np.log10(float(flam)) - 5 * np.log10(float(plam)) - 2.408)
    if abs(zero_point - ZERO_POINTS[band]) > ZERO_POINT_TOLERANCE:
        notes.append(
            f"{band}: zero point {zero_point:.3f} by PHOTFLAM and PHOTPLAM, where "
            f"{ZERO_POINTS[band]} is published: the header's is taken"
        )
    return zero_point
