"""One object's file on its way to a fit: its observation, and what is to be said of it.

    survey_of(path)            which preset's bands and pixels a file has
    read(path, survey)         its observation, checked; no observation where a flag is
                               fatal: no plausible number of a broken image

The checks are those of `catalogue.quality`, but for what a fit can do without: pixels
without data are masked, and the image may be of any size and pixel scale.
"""

import os
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lensjax import observation as _observation
from lensjax import survey as _survey
from lensjax.catalogue import cutouts, quality
from lensjax.catalogue.cutouts import CutoutError
from lensjax.observation import Observation, Observed
from lensjax.survey import Survey

SCALES = 1.25  # of a preset's pixel scale: a file beyond it is another instrument's
SMALLEST = 3.0  # [arcsec] along an image's side: arcs need room
MASKED = ((1.0, 0.3), (4.0, 0.5))  # within [arcsec]: the most that may be missing
HANDLED = {"nan_pixel", "placeholder"}  # flags of pixels that are masked: warnings here
DIGITS = 5  # of a pixel scale: one program for files that differ by rounding


class Candidate(NamedTuple):
    """What came of a file."""

    observation: Observation | None  # None: nothing that can be fitted
    survey: Survey
    origin: _observation.Origin | None
    flags: dict[str, str]  # flag -> message
    place: tuple[float, float]  # ra, dec [deg], nan where the file has none


def survey_of(path: str | os.PathLike) -> Survey:
    """The preset whose bands and pixel scale a file has, HSC where none fits."""
    for survey in _survey.ALL.values():
        try:
            cutout = cutouts.read(path, survey.bands)
        except Exception:  # `read` tells what is wrong with it
            continue
        ratio = cutout.pixel_scale / survey.pixel_scale
        if 1 / SCALES < ratio < SCALES:
            return survey
    return _survey.HSC


def read(path: str | os.PathLike, survey: Survey | None = None) -> Candidate:
    """Read and check a file; without a survey that of `survey_of`.

    Never raises for what is wrong with the file: that stands in the flags.
    """
    survey = survey or survey_of(path)
    nowhere = (np.nan, np.nan)
    try:
        cutout = cutouts.read(path, survey.bands)
        observed = _observation.of_cutout(cutout, survey)
    except CutoutError as error:
        return Candidate(None, survey, None, {error.flag: str(error)}, nowhere)
    except Exception as error:  # one object must never stop the others
        text = f"{os.path.basename(os.fspath(path))}: {error!r}"
        return Candidate(None, survey, None, {"unreadable": text}, nowhere)
    flags = dict(observed.flags) | check(observed, survey)
    place = tuple(_degrees(cutout.facts.get(key)) for key in ("ra", "dec"))
    own = observed.observation
    own = own._replace(pixel_scale=round(own.pixel_scale, DIGITS))
    fatal = quality.is_fatal(set(flags) - HANDLED)
    return Candidate(None if fatal else own, survey, observed.origin, flags, place)


def check(observed: Observed, survey: Survey) -> dict[str, str]:
    """What is wrong with an image: flag -> message."""
    own = observed.observation
    n, scale = own.image.shape[0], own.pixel_scale
    if n * scale < SMALLEST:
        return {"too_small": f"{n * scale:.1f} arcsec, need {SMALLEST:g} at least"}
    inside = ~np.asarray(own.mask).all((1, 2)), ~np.asarray(own.mask).all((0, 2))
    window = np.ix_(*inside)  # an image that is not square has a masked frame
    image, mask = np.asarray(own.image)[window], np.asarray(own.mask)[window]
    variance = np.asarray(own.variance)[window]
    y, x = (np.indices(mask.shape[:2]).T - (np.array(mask.shape[:2]) - 1) / 2).T
    r = np.hypot(x, y) * scale
    for reach, most in MASKED:
        share = mask[r < reach].mean(0)
        if (share > most).any():
            band = survey.bands[int(share.argmax())]
            text = f"{band} {share.max():.0%} of {reach:g} arcsec without data"
            return {"masked": text}
    instrument = survey._replace(pixel_scale=scale, image_size=n)
    # a file's own noise is what its pixels are held against
    if "file" in observed.origin.variance:
        good = np.where(mask, np.nan, variance)
        noise = np.sqrt(np.nanmedian(good, (0, 1)))
        instrument = instrument._replace(sky_sigma=tuple(noise.tolist()))
    else:
        noise = tuple(s * scale / survey.pixel_scale for s in survey.sky_sigma)
        instrument = instrument._replace(sky_sigma=noise)
    if "file" in observed.origin.psf:
        kernels = zip(_bands(own.psf), survey.fwhm, strict=True)
        fwhm = tuple(fwhm_of(kernel) * scale or usual for kernel, usual in kernels)
        instrument = instrument._replace(fwhm=fwhm)
    return quality.check(filled(image, mask), instrument)


def fwhm_of(kernel: np.ndarray) -> float:
    """Full width at half maximum [pixel] of a kernel (k, k), by the area above half."""
    fine = ndimage.zoom(np.asarray(kernel, float), 5, order=3)
    return 2 * float(np.sqrt((fine > fine.max() / 2).sum() / np.pi)) / 5


def _bands(planes) -> list[np.ndarray]:
    return list(np.moveaxis(np.asarray(planes), -1, 0))


def filled(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the nearest good pixel's value where there is none."""
    out = np.array(image, np.float32)
    for k in range(out.shape[-1]):
        bad = mask[..., k]
        if bad.any() and not bad.all():
            at = ndimage.distance_transform_edt(
                bad, return_distances=False, return_indices=True
            )
            smooth = ndimage.median_filter(out[..., k], 3)
            # with a noise like the sky's: equal pixels would look like no data
            rng = np.random.default_rng(0)
            sigma = quality.pixel_noise(out[..., k])
            values = smooth[tuple(at)] + sigma * rng.normal(size=bad.shape)
            out[..., k] = np.where(bad, values, out[..., k])
    return out


def _degrees(value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
