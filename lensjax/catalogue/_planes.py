"""What stands beside the bands in a file: noise, variance, masks and PSFs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from lensjax.catalogue import _one_grid
from lensjax.catalogue import wcs as _wcs
from lensjax.catalogue._fits_files import CutoutError, plane
from lensjax.catalogue.wcs import Grid

BAD = ("BAD", "SAT", "NO_DATA", "UNMASKEDNAN")  # bits of HSC's and Rubin's masks

_KINDS = "PSF|NOISE|VARIANCE|MASK"
_NAME = re.compile(rf"({_KINDS})(?:[-_](.+))?|(.+)[-_]({_KINDS})")


class Beside(NamedTuple):
    """A plane beside the bands."""

    kind: str  # PSF, NOISE or MASK
    owner: str  # its band, "" for one that serves all
    name: str  # for messages
    pixels: np.ndarray  # (ny, nx) float32; of a mask bool, True where bad
    scale: float | None  # by its own header [arcsec]
    grid: Grid | None  # by its own header


def of_name(name: str) -> tuple[str, str] | None:
    """Kind and owner that an EXTNAME in capitals means, as in NOISE_I or HSC-I_PSF."""
    match = _NAME.fullmatch(name)
    return (match[1] or match[4], match[2] or match[3] or "") if match else None


def read(hdu: Any, primary: fits.Header, kind: str, owner: str, name: str) -> Beside:
    """The plane in an HDU.  A variance comes back as noise, nan where not positive."""
    if kind == "MASK":
        pixels = bad_pixels(hdu, name)
    else:
        pixels = plane(hdu, name)
    if kind == "VARIANCE":
        kind = "NOISE"
        positive = pixels > 0
        pixels = np.sqrt(np.where(positive, pixels, 1))
        pixels[~positive] = np.nan
    flag = "bad_psf" if kind == "PSF" else "pixel_scale"
    # what the primary header says is said of the bands
    grid = _wcs.read(hdu.header, primary, hdu.shape, flag, inherit=False)
    scale = None
    if kind == "PSF":
        scale = _wcs.pixel_scale(hdu.header, hdu.header, grid, flag)
    return Beside(kind, owner, name, pixels, scale, grid)


# --- masks ----------------------------------------------------------------------------


def bits(header: fits.Header) -> dict[str, int]:
    """The bits of a mask, by the names that its own MP_* cards give them."""
    return {
        key[3:]: value
        for key, value in header.items()
        if key.startswith("MP_") and isinstance(value, int) and 0 <= value < 32
    }


def any_of(
    mask: np.ndarray, known: Mapping[str, int], names: Sequence[str]
) -> np.ndarray:
    """Where one of the named bits is set (bool); a name that is not known never is."""
    return mask & sum(1 << known[name] for name in names if name in known) != 0


def bad_pixels(hdu: Any, name: str) -> np.ndarray:
    """Where a mask is bad: by the bits in `BAD` if MP_* cards name them, else not 0."""
    pixels = plane(hdu, name, np.float64)  # which holds 32 bits exactly, and nan
    nothing = ~np.isfinite(pixels)
    if known := bits(hdu.header):
        mask = np.where(nothing, 0, pixels).astype(np.int64)
        return any_of(mask, known, BAD) | nothing
    return (pixels != 0) | nothing


# --- with their bands -----------------------------------------------------------------


def onto(
    beside: Sequence[Beside],
    bands: Mapping[str, np.ndarray],
    scales: Mapping[str, float],
    turned: Mapping[str, tuple[Grid | None, _one_grid.Turn, tuple[slice, slice]]],
    reference: str,
) -> dict[str, dict[str, np.ndarray]]:
    """Planes by kind and owner, turned and cut as their bands were.

    bands: as stored.  turned: by band its grid, its turn and what is then cut out.  A
    plane without a WCS of its own lies as its band does, a PSF too: it is a star on the
    band's pixels.  One that serves all bands and has none is refused where these were
    not stored alike.
    """
    out: dict[str, dict[str, np.ndarray]] = {"PSF": {}, "NOISE": {}, "MASK": {}}
    for one in beside:
        leader = one.owner or reference
        grid, how, window = turned[leader]
        if one.scale and abs(one.scale / scales[leader] - 1) > _wcs.SCALE_TOLERANCE:
            text = f"{one.name} has {one.scale:.4g} arcsec per pixel"
            text += f", {leader} {scales[leader]:.4g}: resample it to that"
            raise CutoutError("bad_psf", text)
        alike = all(t[1:] == (how, window) for t in turned.values())
        if not one.owner and one.grid is None and not alike:
            raise CutoutError(
                "band_grid",
                f"{one.name} serves all bands, but they are stored on different pixels:"
                " write one a band, or give it a WCS",
            )
        first = _one_grid.turn(one.grid, grid)
        if first is None:
            text = f"{one.name} is turned against {leader}, by no quarter turn"
            raise CutoutError("band_grid", f"{text}: resample it to those pixels")
        pixels = _one_grid.turned(one.pixels, first)
        if one.kind != "PSF" and pixels.shape != bands[leader].shape:
            (ny, nx), (by, bx) = pixels.shape, bands[leader].shape
            text = f"{one.name} is {ny} x {nx}, {leader} {by} x {bx}"
            raise CutoutError("band_shape", f"{text}: cut both to the same pixels")
        pixels = _one_grid.turned(pixels, how)
        if one.kind != "PSF":
            pixels = np.ascontiguousarray(pixels[window])
        out[one.kind][one.owner] = pixels
    return out
