"""What an image shows: wild pixels, bands that do not belong together, a lens galaxy.

Images (ny, nx, band) of a survey, `noise` (band,) their pixel noise.  Thresholds lie
beyond what 10 real HSC and 30 real DES galaxies and 800 mocks of the embedded
population have: the good images of the comments.  `benchmarks/judge.py` counts false
alarms, and how many broken images are found.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

LOWEST = 15.0  # noise below the 5th percentile of the pixels; good images reach 3.4
ISOLATED = 4.0  # times its brightest neighbour, above the sky; good images reach 1.2
REPEATED = 4  # pixels of one value; good images have a value twice at most
ODD_BAND = 1.6  # [mag] of one band's noise beside the others'; good images reach 1.05
COLOURS = (-0.8, 3.2)  # [mag] of neighbouring bands; good images: -0.1 to 2.3
CORE = 0.7  # [arcsec] around the centre, where colours are measured
SHIFT = 2  # pixels between two bands
REACH = 8  # pixels: farther off one galaxy is taken for another
UNSHIFTED = 0.93  # of the cross-correlation's peak: 1 where bands are aligned
ALIKE = 0.5  # least correlation of two bands, at its peak: bands rolled by hand have
# 0.53 to 1, a band that hardly shows the galaxy and another at most 0.47
CENTRAL = 1.0  # [arcsec] from the centre to the galaxy's peak; good images reach 0.85
DECENTRED = 0.3  # [arcsec] likewise; mocks, whose galaxies are centred, reach 0.12
SEEN = 20.0  # signal to noise of the smoothed peak; good images have 110 or more
COMPACT = 0.70  # of the light within 1.15 FWHM; stars have 0.83, good images reach 0.63

EIGHT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def wild_pixels(image: np.ndarray, noise: np.ndarray, bands: Sequence[str]) -> str:
    """Pixels that no light makes, in words: far below the sky, or alone far above."""
    texts = []
    for k, band in enumerate(bands):
        plane = image[..., k]
        dark = plane < np.percentile(plane, 5) - LOWEST * noise[k]
        around = ndimage.maximum_filter(plane, footprint=EIGHT, mode="reflect")
        sky = np.median(plane)
        alone = plane - around > 10 * noise[k]
        alone &= plane - sky > ISOLATED * np.maximum(around - sky, noise[k])
        if number := int((dark | alone).sum()):
            y, x = np.argwhere(dark | alone)[0]
            texts.append(f"{band} {number} such as {plane[y, x]:.3g} at ({x}, {y})")
    return "; ".join(texts)


def placeholders(plane: np.ndarray, noise: float) -> str:
    """One value that stands in for data here and there, in words.

    Only in planes of real numbers: whole ones repeat by nature.  A value that is close
    to the pixels around it does no harm.  Dead rows and columns are not counted.
    """
    values, counts = np.unique(plane, return_counts=True)
    if len(values) < 0.9 * plane.size:
        return ""
    value = values[counts.argmax()]
    there = plane == value
    there &= ~there.all(1, keepdims=True) & ~there.all(0, keepdims=True)
    if there.sum() < REPEATED:
        return ""
    # zeros of a compressed sky are among their like
    odd = np.abs(plane - ndimage.median_filter(plane, 3)) > 5 * noise
    number = int((there & odd).sum())
    return f"{number} pixels are {value:g}" if number else ""


def odd_band(noise: np.ndarray, expected: np.ndarray, bands: Sequence[str]) -> str:
    """The band whose noise does not go with the others', in words."""
    off = 2.5 * np.log10(noise / np.asarray(expected))
    beside = off - np.median(off)
    k = int(np.abs(beside).argmax())
    if len(bands) < 3 or abs(beside[k]) < ODD_BAND:
        return ""
    return (
        f"the noise of {bands[k]} is {beside[k]:+.1f} mag off beside the other bands': "
        "set its MAGZERO, or convert it to their unit"
    )


def odd_colour(
    image: np.ndarray, noise: np.ndarray, bands: Sequence[str], scale: float
) -> str:
    """Neighbouring bands in which no galaxy is so unlike, in words."""
    ny, nx = image.shape[:2]
    core = _distance(ny, nx, (ny - 1) / 2, (nx - 1) / 2) * scale < CORE
    flux = (image - np.median(image, (0, 1)))[core].sum(0)
    least = 10 * noise * np.sqrt(core.sum())  # what is fainter has no colour
    bright = np.maximum(flux, least)
    colours = -2.5 * np.log10(bright[:-1] / bright[1:])
    seen = (flux > least)[:-1] | (flux > least)[1:]
    wrong = seen & ((colours < COLOURS[0]) | (colours > COLOURS[1]))
    if not wrong.any():
        return ""
    k = int(wrong.argmax())
    return (
        f"{bands[k]} - {bands[k + 1]} is {colours[k]:.1f} at the centre: set MAGZERO "
        "of each band, or convert them to one unit"
    )


def shifted_bands(image: np.ndarray, noise: np.ndarray, bands: Sequence[str]) -> str:
    """Neighbouring bands whose galaxies stand `SHIFT` pixels apart or more, in words.

    By the peak of their cross-correlation.  The root keeps one bright neighbour from
    deciding alone; without what is smooth the peak is sharp.
    """
    above = (image - np.median(image, (0, 1))) / noise - 3
    light = np.sqrt(np.clip(above, 0, None))
    fine = ndimage.gaussian_filter(light, (1, 1, 0))
    fine -= ndimage.gaussian_filter(light, (4, 4, 0))
    spectra = np.fft.rfft2(fine, axes=(0, 1))
    ny, nx = image.shape[:2]
    texts = []
    for k in range(len(bands) - 1):
        product = spectra[..., k] * spectra[..., k + 1].conj()
        c = np.fft.irfft2(product, s=(ny, nx))
        near = np.roll(c, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
        iy, ix = np.unravel_index(np.argmax(near), near.shape)
        dy, dx = iy - REACH, ix - REACH
        # colour gradients move the peak a little, and leave much where it was; bands of
        # which one hardly shows the galaxy are not alike anywhere
        power = (fine[..., k] ** 2).sum() * (fine[..., k + 1] ** 2).sum()
        least = max(ALIKE * np.sqrt(power), c[0, 0] / UNSHIFTED)
        if max(abs(dx), abs(dy)) >= SHIFT and near[iy, ix] > least:
            texts.append(f"{bands[k]} against {bands[k + 1]} by ({dx}, {dy}) pixels")
    return "; ".join(texts)


def galaxy(image: np.ndarray, noise: np.ndarray, survey: Any) -> dict[str, str]:
    """Whether there is a galaxy, where it should be, and more than a star: flags."""
    sky = np.percentile(image, 20, axis=(0, 1))
    light = ((image - sky) / noise).sum(-1) / np.sqrt(image.shape[-1])
    ny, nx = light.shape
    kernel = ndimage.gaussian_filter(np.pad([[1.0]], 6), 1.5)
    smooth = ndimage.gaussian_filter(light, 1.5) / np.sqrt((kernel**2).sum())
    peaks = (smooth == ndimage.maximum_filter(smooth, 5)) & (smooth > SEEN)
    if not peaks.any():
        return {"no_galaxy": f"nothing above {SEEN:g} times the noise"}
    scale = survey.pixel_scale
    away = _distance(ny, nx, (ny - 1) / 2, (nx - 1) / 2) * scale
    nearest = float(away[peaks].min())
    remedy = "from the centre: cut the image out about the lens galaxy"
    told = f"the nearest peak of light is {nearest:.1f} arcsec {remedy}"
    if nearest > CENTRAL:
        return {"off_centre": told}
    central = np.where(peaks & (away <= CENTRAL), smooth, -np.inf)
    y, x = np.unravel_index(central.argmax(), central.shape)
    fwhm = float(np.mean(survey.fwhm))
    around = _distance(ny, nx, y, x) * scale
    stacked = (image - sky).sum(-1)
    whole = stacked[around < max(2.0, 3 * fwhm)].sum()
    share = float(stacked[around < 1.15 * fwhm].sum() / whole) if whole > 0 else 0.0
    if share > COMPACT:
        text = f"{share:.0%} of its light within {1.15 * fwhm:.2g} arcsec"
        return {"star": f"{text}, as a star has"}
    return {"decentred": told} if nearest > DECENTRED else {}


def _distance(ny: int, nx: int, y: float, x: float) -> np.ndarray:
    """Of each pixel from a place [pixel]."""
    rows, columns = np.indices((ny, nx))
    return np.hypot(rows - y, columns - x)
