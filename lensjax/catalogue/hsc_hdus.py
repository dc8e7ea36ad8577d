"""One file of an HSC archive: a band's cutout with its mask and variance, or a PSF.

A cutout has FLUXMAG0 in the primary header, or in the image's, then IMAGE, MASK and
VARIANCE, by EXTNAME or EXTTYPE.  Without names the mask is the plane of whole numbers
or with MP_* cards, the image the first of the others and the variance the second.  The
bits of a mask are those that its own MP_* cards name: they differ from file to file.  A
PSF is the first HDU with an image, on the survey's pixels unless a card says otherwise.

Mask, variance and PSF lie as their image does, unless they have a WCS of their own that
says otherwise: then they are turned to it.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from lensjax import psf as _psf
from lensjax.catalogue import _one_grid, cutouts, wcs
from lensjax.catalogue._flags import note
from lensjax.catalogue._planes import BAD, any_of, bits
from lensjax.catalogue.cutouts import CutoutError
from lensjax.catalogue.wcs import Grid
from lensjax.survey import Survey

SUSPECT = ("INTRP", "CR", "BRIGHT_OBJECT", "CLIPPED", "INEXACT_PSF", "SENSOR_EDGE")
PSF_SIZE = 41  # [pixel] 7 arcsec, the smallest of the archive's
PSF_LEAST = 21  # below, too much of the wings is missing
PSF_SUM = 0.02  # a sum so close to 1 is 1

_PLANES = ("IMAGE", "MASK", "VARIANCE")


class Band(NamedTuple):
    """One band's cutout, whole; planes (ny, nx)."""

    name: str
    image: np.ndarray  # float32 counts at the survey's zero point
    bad: np.ndarray  # bool, by the mask
    saturated: np.ndarray  # bool, by the mask
    suspect: dict[str, np.ndarray]  # bool, by the mask's planes
    no_variance: np.ndarray  # bool, where the variance is no positive number
    grid: Grid | None  # by the image's WCS, as stored


def turned(band: Band, turn: _one_grid.Turn) -> Band:
    """The band with all its planes turned; its `grid` stays that of the file."""
    if turn == _one_grid.SAME:
        return band
    planes = ("image", "bad", "saturated", "no_variance")
    return band._replace(
        suspect={k: _one_grid.turned(v, turn) for k, v in band.suspect.items()},
        **{k: _one_grid.turned(getattr(band, k), turn) for k in planes},
    )


def read_band(path: Path, name: str, survey: Survey, flags: dict[str, str]) -> Band:
    """Read a band's cutout; CutoutError where it cannot be used, else adds to flags."""
    with cutouts.opened(path) as hdus:
        planes = _planes(hdus)
        if "IMAGE" not in planes:
            have = ", ".join(planes) or "no image"
            text = f"no plane IMAGE (found {have}): order it with image = true"
            raise CutoutError("missing_band", text)
        header, primary = planes["IMAGE"].header, hdus[0].header
        says = str(header.get("FILTER", primary.get("FILTER", "")))
        if cutouts.band_named(says, survey.bands) not in (None, name):
            text = f"taken for band {name}, but FILTER says {says}: correct one"
            raise CutoutError("band_conflict", text)
        image = cutouts.plane(planes["IMAGE"], "IMAGE")
        grid = wcs.read(header, primary, planes["IMAGE"].shape)
        _check_scale(header, primary, grid, survey, "pixel_scale")
        factor = _factor(header, primary, survey, flags)
        if factor != 1:
            with np.errstate(over="ignore"):  # then infinite, and flagged
                image = image * np.float32(factor)
        mask, named = np.zeros(image.shape, np.int64), {}
        if "MASK" not in planes:
            text = f"{name} has no plane MASK: order it with mask = true"
            note(flags, "no_mask", text)
        elif not (named := bits(planes["MASK"].header)):
            note(flags, "no_mask", f"MASK of {name} has no MP_ cards to name its bits")
        else:
            mask = _beside(image, grid, planes, "MASK", primary, np.int64)
        no_variance = np.zeros(image.shape, bool)
        if "VARIANCE" in planes:
            variance = _beside(image, grid, planes, "VARIANCE", primary)
            no_variance = ~(np.isfinite(variance) & (variance > 0))
        else:
            text = f"{name} has no plane VARIANCE: order it with variance = true"
            note(flags, "no_variance", text)
    return Band(
        name,
        image,
        bad=any_of(mask, named, BAD),
        saturated=any_of(mask, named, ("SAT",)),
        suspect={key: any_of(mask, named, (key,)) for key in SUSPECT},
        no_variance=no_variance,
        grid=grid,
    )


def _planes(hdus: fits.HDUList) -> dict[str, Any]:
    """IMAGE, MASK and VARIANCE, as far as they are there."""
    planes: dict[str, Any] = {}
    nameless = []
    for hdu in hdus:
        if not hdu.is_image or hdu.header["NAXIS"] == 0:
            continue
        names = [str(hdu.header.get(key, "")) for key in ("EXTNAME", "EXTTYPE")]
        names = [name.strip().upper() for name in names]
        if not (kind := next((name for name in names if name in _PLANES), None)):
            nameless.append(hdu)
        elif kind in planes:
            raise CutoutError("duplicate_band", f"{kind} stands twice: keep one")
        else:
            planes[kind] = hdu
    for hdu in nameless:
        whole = hdu.header["BITPIX"] > 0 and "BSCALE" not in hdu.header
        kinds = ("MASK",) if whole or bits(hdu.header) else ("IMAGE", "VARIANCE")
        if kind := next((k for k in kinds if k not in planes), None):
            planes[kind] = hdu
    return planes


def _beside(
    image: np.ndarray,
    grid: Grid | None,
    planes: dict[str, Any],
    kind: str,
    primary: fits.Header,
    dtype: Any = np.float32,
) -> np.ndarray:
    """A plane beside the image, with the image's orientation and shape."""
    hdu = planes[kind]
    plane = cutouts.plane(hdu, kind, dtype)
    own = wcs.read(hdu.header, primary, hdu.shape, inherit=False)
    turn = _one_grid.turn(own, grid)
    if turn is None:
        text = f"{kind} is turned against IMAGE, by no quarter turn"
        raise CutoutError("band_grid", f"{text}: fetch it again")
    plane = _one_grid.turned(plane, turn)
    if plane.shape != image.shape:
        text = f"{kind} is {plane.shape}, IMAGE {image.shape}: fetch it again"
        raise CutoutError("band_shape", text)
    return plane


def _factor(header, primary, survey: Survey, flags: dict[str, str]) -> float:
    """From the file's counts to counts at the survey's zero point."""
    want = survey.zero_point
    flux = cutouts.number(header, primary, "FLUXMAG0", "zero_point")
    if flux is None:
        flags["no_zero_point"] = f"no card FLUXMAG0, zero point {want:g} assumed"
        return 1.0
    have = 2.5 * math.log10(flux) if flux > 0 else math.nan
    if not 0 < have < 50:
        text = f"FLUXMAG0 = {flux:g} is no flux of magnitude zero: fetch it again"
        raise CutoutError("zero_point", text)
    if abs(have - want) < 1e-6:
        return 1.0
    flags["rescaled"] = f"zero point {have:.4g} by FLUXMAG0 converted to {want:g}"
    return 10 ** (0.4 * (want - have))


def _check_scale(header, primary, grid, survey: Survey, flag: str) -> None:
    scale = wcs.pixel_scale(header, primary, grid, flag)
    if scale and not abs(scale / survey.pixel_scale - 1) < cutouts.SCALE_TOLERANCE:
        raise CutoutError(
            flag,
            f"{scale:.4g} arcsec per pixel where {survey.name} has "
            f"{survey.pixel_scale:g}: resample it to that",
        )


def read_psf(
    path: Path,
    name: str,
    survey: Survey,
    flags: dict[str, str],
    grid: Grid | None = None,
    reference: Grid | None = None,
) -> np.ndarray:
    """Read a band's PSF (41, 41) float32, centred, sum 1, as `psf.centre` makes it.

    A larger one is cut, a smaller one framed with zeros.  It is a star on the pixels of
    its band, `grid`, as the band is stored, unless it has a WCS of its own, and is
    turned as the band is to those of `reference`.  CutoutError, flag bad_psf, where it
    cannot be a PSF.
    """
    with cutouts.opened(path) as hdus:
        hdu = next((h for h in hdus if h.is_image and h.header["NAXIS"]), None)
        if hdu is None:
            raise CutoutError("bad_psf", "no image in it: fetch it again")
        kernel = cutouts.plane(hdu, f"PSF of {name}")
        header, primary = hdu.header, hdus[0].header
        own = wcs.read(header, primary, hdu.shape, "bad_psf")
        _check_scale(header, primary, own, survey, "bad_psf")
        turn = _one_grid.turn(own or grid, reference)
        if turn is None:
            text = "its WCS is turned against the cutout's, by no quarter turn"
            raise CutoutError("bad_psf", f"{text}: fetch both anew")
        kernel = _one_grid.turned(kernel, turn)
        ny, nx = kernel.shape
        n = min(ny, nx)
        if ny % 2 == 0 or nx % 2 == 0 or n < PSF_LEAST:
            text = f"{ny} x {nx}: must be odd and at least {PSF_LEAST}; fetch it again"
            raise CutoutError("bad_psf", text)
        total = float(kernel.sum(dtype=float))
        if not math.isfinite(total) or total <= 0:
            text = f"not finite, or without flux (sum {total:g}): fetch it again"
            raise CutoutError("bad_psf", text)
        y, x = np.unravel_index(np.argmax(kernel), kernel.shape)
        off = (int(x) - nx // 2, int(y) - ny // 2)
        if max(map(abs, off)) > 1:
            text = f"its peak is {off} pixels off the middle"
            raise CutoutError("bad_psf", f"{text}: order it with centered = true")
        if abs(total - 1) > PSF_SUM:
            note(flags, "psf_sum", f"PSF of {name} has the sum {total:.3g}, normalised")
        edge_y, edge_x = (ny - n) // 2, (nx - n) // 2
        kernel = _psf.centre(kernel[edge_y : edge_y + n, edge_x : edge_x + n])
    return _sized(kernel).astype(np.float32)


def _sized(kernel: np.ndarray) -> np.ndarray:
    edge = (kernel.shape[0] - PSF_SIZE) // 2
    if edge < 0:
        return np.pad(kernel, -edge)
    kernel = kernel[edge : edge + PSF_SIZE, edge : edge + PSF_SIZE]
    return kernel / kernel.sum()
