"""One file of an HSC archive: a band's cutout with its mask and variance, or a PSF.

A cutout has FLUXMAG0 in the primary header, or in the image's, then IMAGE, MASK and
VARIANCE, by EXTNAME or EXTTYPE.  Without names the mask is the plane of whole numbers
or with MP_* cards, the image the first of the others and the variance the second.  The
bits of a mask are those that its own MP_* cards name: they differ from file to file.  A
PSF is the first HDU with an image, on the survey's pixels unless a card says otherwise.
"""

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lensjax import psf as _psf
from lensjax.catalogue import cutouts
from lensjax.catalogue.cutouts import CutoutError
from lensjax.survey import Survey

BAD = ("BAD", "SAT", "NO_DATA", "UNMASKEDNAN")
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
    wcs: WCS | None


def note(flags: dict[str, str], flag: str, text: str) -> None:
    """Add to what a flag says."""
    flags[flag] = f"{flags[flag]}; {text}" if flag in flags else text


def read_band(path: Path, name: str, survey: Survey, flags: dict[str, str]) -> Band:
    """Read a band's cutout; CutoutError where it cannot be used, else adds to flags."""
    with cutouts.opened(path) as hdus:
        planes = _planes(hdus)
        if "IMAGE" not in planes:
            have = ", ".join(planes) or "no image"
            text = f"no plane IMAGE (found {have}): order it with image=true"
            raise CutoutError("missing_band", text)
        header, primary = planes["IMAGE"].header, hdus[0].header
        says = str(header.get("FILTER", primary.get("FILTER", "")))
        if cutouts.band_named(says, survey.bands) not in (None, name):
            text = f"taken for band {name}, but FILTER says {says}: correct one"
            raise CutoutError("band_conflict", text)
        _check_scale(header, survey, "pixel_scale", flags)
        image = cutouts.plane(planes["IMAGE"], "IMAGE")
        factor = _factor(header, primary, survey, flags)
        if factor != 1:
            with np.errstate(over="ignore"):  # then infinite, and flagged
                image = image * np.float32(factor)
        mask, bits = np.zeros(image.shape, np.int64), {}
        if "MASK" not in planes:
            note(flags, "no_mask", f"{name} has no plane MASK: order it with mask=true")
        elif not (bits := _bits(planes["MASK"].header)):
            note(flags, "no_mask", f"MASK of {name} has no MP_ cards to name its bits")
        else:
            mask = _like(image, planes, "MASK", np.int64)
        no_variance = np.zeros(image.shape, bool)
        if "VARIANCE" in planes:
            variance = _like(image, planes, "VARIANCE", np.float32)
            no_variance = ~(np.isfinite(variance) & (variance > 0))
    return Band(
        name,
        image,
        bad=_any(mask, bits, BAD),
        saturated=_any(mask, bits, ("SAT",)),
        suspect={key: _any(mask, bits, (key,)) for key in SUSPECT},
        no_variance=no_variance,
        wcs=_wcs(header),
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
        kinds = ("MASK",) if whole or _bits(hdu.header) else ("IMAGE", "VARIANCE")
        if kind := next((k for k in kinds if k not in planes), None):
            planes[kind] = hdu
    return planes


def _wcs(header: fits.Header) -> WCS | None:
    if not str(header.get("CTYPE1", "")).upper().startswith("RA"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cards that are not quite the standard's
        return WCS(header, naxis=2)


def _bits(header: fits.Header) -> dict[str, int]:
    return {
        key[3:]: value
        for key, value in header.items()
        if key.startswith("MP_") and isinstance(value, int) and 0 <= value < 32
    }


def _any(mask: np.ndarray, bits: dict[str, int], names: tuple[str, ...]) -> np.ndarray:
    return mask & sum(1 << bits[name] for name in names if name in bits) != 0


def _like(image: np.ndarray, planes: dict, kind: str, dtype: Any) -> np.ndarray:
    plane = cutouts.plane(planes[kind], kind, dtype)
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


def _check_scale(header, survey: Survey, flag: str, flags: dict[str, str]) -> None:
    scale = cutouts.wcs_scale(header, flags)
    if scale is None:
        scale = cutouts.number(header, header, "PIXSCALE", flag)
    if scale is None:
        return
    if not abs(scale / survey.pixel_scale - 1) < cutouts.SCALE_TOLERANCE:
        raise CutoutError(
            flag,
            f"{scale:.4g} arcsec per pixel where {survey.name} has "
            f"{survey.pixel_scale:g}: resample it to that",
        )


def read_psf(
    path: Path, name: str, survey: Survey, flags: dict[str, str]
) -> np.ndarray:
    """Read a band's PSF (41, 41) float32, centred, sum 1, as `psf.centre` makes it.

    A larger one is cut, a smaller one framed with zeros.  CutoutError, flag bad_psf,
    where it cannot be a PSF.
    """
    with cutouts.opened(path) as hdus:
        hdu = next((h for h in hdus if h.is_image and h.header["NAXIS"]), None)
        if hdu is None:
            raise CutoutError("bad_psf", "no image in it: fetch it again")
        _check_scale(hdu.header, survey, "bad_psf", {})
        kernel = cutouts.plane(hdu, f"PSF of {name}")
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
            text = f"its peak is {off} pixels off the middle: order it with centered"
            raise CutoutError("bad_psf", f"{text}=true")
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
