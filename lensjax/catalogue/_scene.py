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
DOUBTFUL_BAND = 1.15  # [mag] of one band's noise, with which there is a warning
DOUBTFUL_COLOURS = (-0.3, 2.6)  # [mag], likewise
# Median of the frame and the faintest 5 % of pixels, in noise: good images -0.3, 7.1
DOUBTFUL_SKY = (-0.6, 9.0)
OWN_SKY = 3.0  # noise of one band's sky beside the others'; good images reach 2.5
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
    beside = _beside(noise, expected)
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
    flux, least = _core(image, noise, scale)
    if (flux < -least).any():
        band = bands[int((flux / least).argmin())]
        return f"the light at the centre is negative in {band}: give it as light"
    return _colour_beyond(flux, least, bands, COLOURS)


def doubtful_band(
    image: np.ndarray,
    noise: np.ndarray,
    expected: np.ndarray,
    bands: Sequence[str],
    scale: float,
) -> str:
    """What one band has that good images have not, but some might, in words."""
    texts = []
    frame = np.ones(image.shape[:2], bool)
    frame[4:-4, 4:-4] = False
    low = np.median(image[frame], axis=0) / noise
    high = np.percentile(image.reshape(-1, len(bands)), 5, axis=0) / noise
    own = _own_sky(image, noise)
    for band, below, above, alone in zip(bands, low, high, own, strict=True):
        beyond = below < DOUBTFUL_SKY[0] or above > DOUBTFUL_SKY[1]
        if beyond or abs(alone) > OWN_SKY:
            sky = below if below < 0 or not beyond else above
            texts.append(
                f"the sky of {band} is {sky:+.1f} times the noise: subtract it"
            )
    off = _beside(noise, expected)
    k = int(np.abs(off).argmax())
    if len(bands) > 2 and abs(off[k]) > DOUBTFUL_BAND:
        texts.append(f"the noise of {bands[k]} is {off[k]:+.1f} mag off the others'")
    texts.append(_colour_beyond(*_core(image, noise, scale), bands, DOUBTFUL_COLOURS))
    return "; ".join(filter(None, texts))


def _own_sky(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Sky of each band, in noise, that the light of the others does not explain.

    From a ring to the frame the lens falls off alike in all bands, but for a factor.
    """
    ny, nx = image.shape[:2]
    r = _distance(ny, nx, (ny - 1) / 2, (nx - 1) / 2) / min(ny, nx)
    ring = np.median(image[(r > 0.125) & (r < 0.22)], axis=0) / noise
    frame = np.median(image[r > 0.4], axis=0) / noise
    others, there = ring.sum() - ring, frame.sum() - frame  # none of a single band
    slope = (ring - frame) / np.maximum(others - there, 1e-3)
    return frame - np.clip(slope, 0, 3) * there if len(noise) > 1 else 0 * noise


def _core(image, noise, scale) -> tuple[np.ndarray, np.ndarray]:
    """Flux of each band at the centre, and the least that is seen there."""
    ny, nx = image.shape[:2]
    core = _distance(ny, nx, (ny - 1) / 2, (nx - 1) / 2) * scale < CORE
    flux = (image - np.median(image, (0, 1)))[core].sum(0)
    return flux, 10 * noise * np.sqrt(core.sum())


def _colour_beyond(flux, least, bands, limits) -> str:
    bright = np.maximum(flux, least)  # what is fainter has no colour
    colours = -2.5 * np.log10(bright[:-1] / bright[1:])
    seen = (flux > least)[:-1] | (flux > least)[1:]
    wrong = seen & ((colours < limits[0]) | (colours > limits[1]))
    if not wrong.any():
        return ""
    k = int(wrong.argmax())
    return (
        f"{bands[k]} - {bands[k + 1]} is {colours[k]:.1f} at the centre: set MAGZERO "
        "of each band, or convert them to one unit"
    )


def _beside(noise, expected) -> np.ndarray:
    """How far off each band's noise is beside the others' [mag]."""
    off = 2.5 * np.log10(noise / np.asarray(expected))
    return off - np.median(off)


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
