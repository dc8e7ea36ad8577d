"""One object's cutout, read from a FITS file.

Layout: one file an object, one image extension a band named by EXTNAME (else by
FILTER), the cards PIXSCALE [arcsec], MAGZERO (AB) and those of a WCS, and planes PSF,
NOISE or VARIANCE, and MASK where there are any, of one band (NOISE_I, I_NOISE, or by
FILTER) or of all.  Row 0 is the lowest y, column 0 the lowest x, and the centre of n
pixels is (n - 1) / 2.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from lensjax.catalogue import _one_grid, _planes, wcs
from lensjax.catalogue._fits_files import (
    CutoutError,
    check_rows,
    number,
    opened,
    plane,
)
from lensjax.catalogue._flags import note
from lensjax.catalogue.wcs import SCALE_TOLERANCE, Grid

__all__ = [
    "SCALE_TOLERANCE",
    "Cutout",
    "CutoutError",
    "band_named",
    "number",
    "opened",
    "plane",
    "read",
]

_GENERIC = {"", "IMAGE", "SCI", "SCIENCE", "DATA", "PRIMARY"}
_BAND = re.compile(r"(?:(?:HSC|DES|DECAM|LSST|SDSS|PS1|SUBARU)[-_. ]?)?([A-Z])[0-9]?")


class Cutout(NamedTuple):
    """One object as its file has it, on one grid of pixels; planes are contiguous."""

    bands: dict[str, np.ndarray]  # (ny, nx) float32 in the file's unit, as asked for
    pixel_scale: float  # [arcsec]
    zero_point: dict[str, float | None]  # AB magnitude of one count; None: no card
    psf: dict[str, np.ndarray]  # by band, "" for one that serves all; float32
    noise: dict[str, np.ndarray]  # likewise, (ny, nx), one sigma in the bands' unit
    mask: dict[str, np.ndarray]  # likewise, (ny, nx) bool, True where a pixel is bad
    facts: dict[str, Any]  # OBJECT, RA, DEC, FILTER, where the header has them
    warnings: dict[str, str]  # flag -> what a person should know


def read(
    path: str | os.PathLike, bands: Sequence[str] = ("G", "R", "I", "Z")
) -> Cutout:
    """Read one object's cutout.

    Bands go by name, in any order and case; HSC-G, HSC-R2, i2 and a FILTER card under
    a generic EXTNAME are understood, other bands in the file ignored.  Without PIXSCALE
    the scale is the WCS's (`wcs.read`); without both the file is refused, and also
    where the two differ by more than 1 %.  Compressed images, tiled or gzipped, are
    unpacked.

    Bands that a WCS says are stored upside down, mirrored, by quarter turns or by whole
    pixels differently are brought to one grid, with their planes, and cut to what they
    share about its middle: flag `aligned`.  The grid is that of a band with north up
    and east left if there is one, else of most bands (`_one_grid.reference`).  By other
    angles, or where just some bands have a WCS, they are refused.

    A variance comes as noise, its root, nan where it is not positive; NOISE goes first.
    A mask is bad where it is not 0 or, with cards MP_*, where BAD, SAT, NO_DATA or
    UNMASKEDNAN are set.

    Raises
    ------
    CutoutError
        With a flag of `quality.FATAL` and a message that names the file, the value and
        the remedy.
    """
    with opened(path) as hdus:
        return _cutout(hdus, tuple(b.upper() for b in bands))


def _cutout(hdus: fits.HDUList, bands: tuple[str, ...]) -> Cutout:
    planes: dict[str, np.ndarray] = {}
    headers: dict[str, fits.Header] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    beside: list[_planes.Beside] = []
    seen, primary = [], hdus[0].header
    for hdu in hdus:
        if not hdu.is_image or hdu.header["NAXIS"] == 0:
            continue
        header = hdu.header
        name = str(header.get("EXTNAME", "")).strip().upper()
        if what := _planes.of_name(name):
            kind, owner = what
            owner = _owner(owner, header, bands)
            if owner is not None:
                beside.append(_planes.read(hdu, primary, kind, owner, name))
            continue
        band = _band_of(header, name, bands)
        if band is None and sum(n > 1 for n in hdu.shape) > 2:
            plane(hdu, name or "an image without a name")  # refuses it as a cube
        seen.append(band or name or "(no name)")
        if band not in bands:
            continue
        if band in planes:
            raise CutoutError("duplicate_band", f"band {band} stands twice: keep one")
        planes[band], headers[band], shapes[band] = plane(hdu, band), header, hdu.shape
        check_rows(hdu, band)
    if missing := [b for b in bands if b not in planes]:
        raise CutoutError(
            "missing_band",
            f"no band {', '.join(missing)} (found {', '.join(seen) or 'no image'}): "
            "name extensions by EXTNAME or FILTER, or use a network for these bands",
        )
    grids = {b: wcs.read(headers[b], primary, shapes[b]) for b in bands}
    scales = {b: _pixel_scale(headers[b], primary, grids[b]) for b in bands}
    scale = scales[bands[0]]
    if any(abs(s / scale - 1) > SCALE_TOLERANCE for s in scales.values()):
        raise CutoutError("pixel_scale", f"differs between bands: {scales}; resample")
    warnings: dict[str, str] = {}
    reference, turned = _on_one_grid(planes, grids, bands, warnings)
    extra = _planes.onto(_once(beside), planes, scales, turned, reference)
    return Cutout(
        bands={b: _cut(planes[b], *turned[b][1:]) for b in bands},
        pixel_scale=scale,
        zero_point={b: _zero_point(headers[b], primary) for b in bands},
        psf=extra["PSF"],
        noise=extra["NOISE"],
        mask=extra["MASK"],
        facts={
            key.lower(): h[key]
            for h in (headers[bands[0]], primary)
            for key in ("OBJECT", "RA", "DEC")
            if key in h
        },
        warnings=warnings,
    )


# --- what is what ---------------------------------------------------------------------


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


def _owner(word: str, header: fits.Header, bands: Sequence[str]) -> str | None:
    """The band whose plane it is, "" for all, None for one that is not asked for."""
    band = band_named(word or str(header.get("FILTER", "")), bands)
    if band is None and not word:
        return ""
    return band if band in bands else None


def _once(beside: list[_planes.Beside]) -> list[_planes.Beside]:
    """Planes of which none stands twice; a noise goes before a variance."""
    kept: dict[tuple[str, str], _planes.Beside] = {}
    for one in beside:
        key = one.kind, one.owner
        if (other := kept.get(key)) is None:
            kept[key] = one
        elif ("VARIANCE" in one.name) == ("VARIANCE" in other.name):
            text = f"{one.kind} of {one.owner or 'all bands'} stands twice"
            raise CutoutError("duplicate_band", f"{text}: keep one")
        elif "VARIANCE" in other.name:
            kept[key] = one
    return list(kept.values())


# --- on one grid ----------------------------------------------------------------------


def _on_one_grid(
    planes: Mapping[str, np.ndarray],
    grids: Mapping[str, Grid | None],
    bands: Sequence[str],
    warnings: dict[str, str],
) -> tuple[str, dict[str, tuple[Grid | None, _one_grid.Turn, tuple[slice, slice]]]]:
    """The band with the grid; by band its own, how to turn it, what to cut out then."""
    everything = slice(None), slice(None)
    known = _one_grid.known(grids)
    if not known:
        shapes = {b: planes[b].shape for b in bands}
        if len(set(shapes.values())) > 1:
            text = ", ".join(f"{b} {ny} x {nx}" for b, (ny, nx) in shapes.items())
            raise CutoutError("band_shape", f"{text}: cut all bands to one shape")
        return bands[0], {b: (None, _one_grid.SAME, everything) for b in bands}
    leader = _one_grid.reference(known, bands[0])
    grid = known[leader]
    if text := wcs.orientation(grid):
        warnings["orientation"] = text
    if grid.lacks:
        warnings["no_wcs"] = f"the WCS lacks {grid.lacks}: no position"
    if all(one is grid for one in known.values()):
        return leader, {b: (grid, _one_grid.SAME, everything) for b in bands}
    turns, starts = {}, {}
    (ny, nx), cut_y, cut_x = grid.shape, 0, 0
    for b in bands:
        place = _one_grid.place(b, known[b], leader, grid)
        turns[b] = place.turn
        x, y = starts[b] = _one_grid.whole(b, *place[1:], leader, warnings)
        by, bx = known[b].shape if place.turn[0][0] else known[b].shape[::-1]
        cut_x, cut_y = max(cut_x, -x, nx - bx + x), max(cut_y, -y, ny - by + y)
        if place.turn != _one_grid.SAME:
            note(warnings, "aligned", f"{b} {_one_grid.how(place.turn)} as {leader} is")
    # as much on either side: the middle stays the middle
    ny, nx = ny - 2 * cut_y, nx - 2 * cut_x
    if min(ny, nx) < 1:
        text = f"the bands do not share the pixels about the middle of {leader}"
        raise CutoutError("too_small", f"{text}: cut them out about one place")
    if cut_y or cut_x:
        (oy, ox) = grid.shape
        note(warnings, "aligned", f"the bands share {ny} x {nx} pixels of {oy} x {ox}")
    return leader, {
        b: (
            known[b],
            turns[b],
            (
                slice(cut_y + y, cut_y + y + ny),
                slice(cut_x + x, cut_x + x + nx),
            ),
        )
        for b, (x, y) in starts.items()
    }


def _cut(
    plane: np.ndarray, turn: _one_grid.Turn, window: tuple[slice, slice]
) -> np.ndarray:
    return np.ascontiguousarray(_one_grid.turned(plane, turn)[window])


# --- numbers --------------------------------------------------------------------------


def _zero_point(header: fits.Header, primary: fits.Header) -> float | None:
    """MAGZERO, else by HSC's FLUXMAG0, the counts of magnitude zero."""
    value = number(header, primary, "MAGZERO", "zero_point")
    if value is not None and not 0 < value < 50:
        raise CutoutError("zero_point", f"MAGZERO = {value:g} is no AB zero point")
    if value is None:
        flux = number(header, primary, "FLUXMAG0", "zero_point")
        if flux is None:
            return None
        if not 1 < flux < 1e20:
            text = f"FLUXMAG0 = {flux:g} is no flux of magnitude zero"
            raise CutoutError("zero_point", f"{text}: set MAGZERO")
        return round(2.5 * math.log10(flux), 6)
    return value


def _pixel_scale(header: fits.Header, primary: fits.Header, grid: Grid | None) -> float:
    scale = wcs.pixel_scale(header, primary, grid)
    if scale is None:
        raise CutoutError(
            "pixel_scale", "no pixel scale: set PIXSCALE [arcsec per pixel], or a WCS"
        )
    return scale
