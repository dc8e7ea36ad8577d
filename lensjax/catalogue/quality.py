"""Whether a cutout is fit for a network: its faults by name, and what the network sees.

Inputs are checked, never outputs: a max-pool can drop a NaN, and a network then gives
a broken image a plausible number.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lensjax.catalogue import _scene
from lensjax.catalogue._flags import FATAL, WARNING, is_fatal, note
from lensjax.catalogue.cutouts import SCALE_TOLERANCE, Cutout

__all__ = ["FATAL", "WARNING", "Image", "check", "is_fatal", "pixel_noise", "prepare"]

MASKED_FRACTION = 0.2
MASKED_AT_CENTRE = 0.05  # within `LENS_RADIUS`
SKY_BELOW = 3.0  # median of the frame, in units of the pixel noise
SKY_ABOVE = 15.0  # faintest 5 % of pixels; real LRGs reach 3, mocks 6.3, a sky 300
# Pixel noise against the survey's [mag]: real HSC cutouts lie within 0.8, DES as DES
# too; nJy or zero point 30 taken for counts at 27 are 4.4 and 3 off, nanomaggies -4.5.
UNITS_TOLERANCE = 2.0
UNITS = {22.5: "nanomaggies", 27.0: "HSC counts", 30.0: "DES counts", 31.4: "nJy"}
# An i = 18 star in 0.6 arcsec seeing, where HSC saturates, peaks at 17.05 mag/arcsec2;
# the core of a nearby elliptical can reach 16.2, so the middle is not judged by this.
SATURATION_MAG = 17.0
SATURATION_SCALE = 0.1  # from this pixel scale on: sharper images of cores are brighter
LENS_RADIUS = 1.0  # [arcsec] around the centre
PLATEAU = 5  # so many pixels at exactly the maximum are no coincidence
BLANK = 4  # side of a patch of equal pixels; noise of 1 ADU makes one in 500 images
THIN_EDGE = 2  # real HSC cutouts often have a dead last row; networks learn with it


class Image(NamedTuple):
    """What the network sees of a cutout, and what is to be said about it."""

    pixels: np.ndarray  # (size, size, band) float32, survey's counts; fatal: not to use
    shift: float  # the file's centre in the crop's coordinates, x and y alike [arcsec]
    flags: dict[str, str]  # flag -> message


def prepare(cutout: Cutout, survey: Any) -> Image:
    """Crop, convert and check a cutout for a survey.

    Parameters
    ----------
    cutout : Cutout
        From `cutouts.read` with the survey's bands.
    survey : Survey
        `bands`, `pixel_scale` [arcsec], `zero_point` [AB], `image_size` [pixel] and
        `sky_sigma` [counts, by band].

    Notes
    -----
    The crop to m of n pixels begins at pixel (n - m) // 2.  For n - m even the two
    centres agree.  For n - m odd the crop's centre lies half a pixel below the file's
    in x and y, so the file's centre appears at +0.5 pixel in the crop: that is `shift`,
    to be taken off predicted centres.
    """
    size, scale = survey.image_size, survey.pixel_scale
    ny, nx = next(iter(cutout.bands.values())).shape
    flags = dict(cutout.warnings)
    empty = np.full((size, size, len(survey.bands)), np.nan, np.float32)
    if abs(cutout.pixel_scale / scale - 1) > SCALE_TOLERANCE:
        flags["pixel_scale"] = (
            f"{cutout.pixel_scale:.4g} arcsec per pixel where the network knows "
            f"{scale:g}: resample to {scale:g}, or train for this scale"
        )
    if min(ny, nx) < size:
        flags["too_small"] = (
            f"got {ny} x {nx}, need at least {size} x {size} at {scale:g} arcsec"
        )
    if is_fatal(flags):
        return Image(empty, 0.0, flags)
    if (ny - nx) % 2:
        # the shift would differ between x and y: one number could not undo it
        flags["band_shape"] = (
            f"{ny} x {nx}: cut to sides that are both even or both odd"
        )
        return Image(empty, 0.0, flags)
    y0, x0 = (ny - size) // 2, (nx - size) // 2
    window = np.s_[y0 : y0 + size, x0 : x0 + size]
    planes = [cutout.bands[band.upper()][window] for band in survey.bands]
    zero_points = np.broadcast_to(survey.zero_point, len(planes))
    factors = [
        _factor(band, cutout.zero_point[band.upper()], float(want), flags)
        for band, want in zip(survey.bands, zero_points, strict=True)
    ]
    pixels = np.stack([_times(*pair) for pair in zip(planes, factors, strict=True)], -1)
    for flag, text in check(pixels, survey).items():
        note(flags, flag, text)
    for flag, text in _bad_pixels(cutout, survey.bands, window).items():
        note(flags, flag, text)
    return Image(pixels, 0.5 * scale * ((ny - size) % 2), flags)


def check(pixels: np.ndarray, survey: Any) -> dict[str, str]:
    """Look for faults in an image (ny, nx, band) in the survey's unit: flag -> message.

    Saturation is judged without a mask: pixels clipped at one value, or, beside the
    lens, a surface brightness at which the detector saturates.  A saturated star that
    the archive's pipeline painted over smoothly, and fainter than that, is not found.
    """
    found: dict[str, list[str]] = {}
    alive = []
    for k, band in enumerate(survey.bands):
        flags = _check_plane(pixels[..., k])
        for flag, text in flags.items():
            found.setdefault(flag, []).append(f"{band} {text}".strip())
        if not is_fatal(flags):
            alive.append(k)
    out = {flag: "; ".join(texts) for flag, texts in found.items()}
    noise = np.array([pixel_noise(pixels[..., k]) for k in alive])
    # a noiseless image leaves nothing to measure levels with
    if alive and (noise > 0).all():
        bands = [survey.bands[k] for k in alive]
        for flag, text in _check_levels(
            pixels[..., alive], noise, bands, survey
        ).items():
            note(out, flag, text)
        # of what is not data nothing can be told that is not told yet
        if not is_fatal(out):
            out |= _check_scene(pixels, noise, survey)
    return out


def pixel_noise(plane: np.ndarray) -> float:
    """Measure the pixel noise (one sigma) by the differences of neighbouring pixels.

    Galaxies hardly matter; noise correlated by resampling comes out a little low.
    """
    return 1.4826 * float(np.median(np.abs(np.diff(plane, axis=1)))) / math.sqrt(2)


# --- pixels ---------------------------------------------------------------------------


def _check_plane(a: np.ndarray) -> dict[str, str]:
    """Faults of one band that need no unit."""
    bad = ~np.isfinite(a)
    if bad.all():
        return {"nan_band": ""}
    flags = {}
    if bad.any():
        flags["nan_pixel"] = f"{bad.sum()} pixels"
        if bad.mean() > MASKED_FRACTION:
            flags["masked"] = f"{bad.mean():.0%}"
    low, high = a[~bad].min(), a[~bad].max()
    if low == high:
        return flags | (
            {"zero_band": ""} if low == 0 else {"constant_band": f"{low:g}"}
        )
    # every pixel of a dead row equals its first one, or none is finite
    rows = np.flatnonzero(((a == a[:, :1]) | bad).all(1))
    columns = np.flatnonzero(((a == a[:1]) | bad).all(0))
    if len(rows) or len(columns):
        thin = _is_thin_edge(rows, a.shape[0]) and _is_thin_edge(columns, a.shape[1])
        text = f"{len(rows)} rows, {len(columns)} columns"
        flags["thin_edge" if thin else "stripe"] = text
    if np.count_nonzero(a == high) >= PLATEAU and high > 20 * pixel_noise(
        np.where(bad, 0, a)
    ):
        flags["saturated"] = f"clipped at {high:g}"
    elif "stripe" not in flags and _equal_patch(a):
        flags["blank_patch"] = f"at least {BLANK} x {BLANK} pixels"
    elif not bad.any() and (text := _scene.placeholders(a, pixel_noise(a))):
        flags["placeholder"] = text
    return flags


def _is_thin_edge(lines: np.ndarray, n: int) -> bool:
    border = (lines < THIN_EDGE) | (lines >= n - THIN_EDGE)
    return len(lines) <= THIN_EDGE and bool(border.all())


def _equal_patch(a: np.ndarray) -> bool:
    """Whether BLANK x BLANK neighbouring pixels are equal somewhere."""
    same = (
        (a[1:, 1:] == a[:-1, :-1])
        & (a[1:, 1:] == a[:-1, 1:])
        & (a[1:, 1:] == a[1:, :-1])
    )
    n = BLANK - 1
    if np.count_nonzero(same) < n * n:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(same, (n, n))
    return bool(windows.all((-1, -2)).any())


def _check_levels(
    image: np.ndarray, noise: np.ndarray, bands: Sequence[str], survey: Any
) -> dict[str, str]:
    """Check unit, sky and saturation of the bands that hold data."""
    zero_point = float(np.mean(survey.zero_point))
    expected = [survey.sky_sigma[survey.bands.index(band)] for band in bands]
    # a wrong zero point moves the noise by just as many magnitudes
    off = 2.5 * math.log10(float(np.median(noise / expected)))
    if abs(off) > UNITS_TOLERANCE:
        likely = min(UNITS, key=lambda zp: abs(zp - zero_point - off))
        near = likely != zero_point and abs(likely - zero_point - off) < 1
        guess = (
            f"values look like {UNITS[likely]}: set the card MAGZERO = {likely:g}"
            if near
            else f"the zero point seems to be about {zero_point + off:.1f}: set MAGZERO"
        )
        text = f"the noise is {off:+.1f} mag off for zero point {zero_point:g}"
        return {"wrong_units": f"{text}; {guess}"}
    flags = {}
    frame = np.ones(image.shape[:2], bool)
    frame[4:-4, 4:-4] = False
    sky = np.median(image[frame], axis=0) / noise
    if (sky < -SKY_BELOW).any():
        flags["negative_sky"] = _worst(bands, sky, np.argmin, "times the pixel noise")
    floor = np.percentile(image.reshape(-1, len(bands)), 5, axis=0) / noise
    if (floor > SKY_ABOVE).any():
        flags["high_sky"] = _worst(bands, floor, np.argmax, "times the pixel noise")
    y, x = np.indices(image.shape[:2])
    ny, nx = image.shape[:2]
    radius = np.hypot(y - (ny - 1) / 2, x - (nx - 1) / 2) * survey.pixel_scale
    peak = image[radius > LENS_RADIUS].max(0) / survey.pixel_scale**2
    if survey.pixel_scale < SATURATION_SCALE or "high_sky" in flags:
        return flags
    # a peak below the sky has no magnitude
    surface = zero_point - 2.5 * np.log10(np.where(peak > 0, peak, 1e-9))
    if (surface < SATURATION_MAG).any():
        at = "mag/arcsec2 at the peak"
        flags["saturated"] = _worst(bands, surface, np.argmin, at)
    return flags


def _check_scene(image: np.ndarray, noise: np.ndarray, survey: Any) -> dict[str, str]:
    """Check what the image shows, by one thing after the other: the first is told."""
    if text := _scene.wild_pixels(image, noise, survey.bands):
        return {"wild_pixel": text}
    if text := _scene.odd_band(noise, survey.sky_sigma, survey.bands):
        return {"wrong_units": text}
    if text := _scene.odd_colour(image, noise, survey.bands, survey.pixel_scale):
        return {"wrong_units": text}
    if text := _scene.shifted_bands(image, noise, survey.bands):
        return {"misaligned": text}
    flags = _scene.galaxy(image, noise, survey)
    about = noise, survey.sky_sigma, survey.bands, survey.pixel_scale
    if not is_fatal(flags) and (text := _scene.doubtful_band(image, *about)):
        flags["doubtful_band"] = text
    return flags


def _worst(bands: Sequence[str], values: np.ndarray, pick: Any, unit: str) -> str:
    k = int(pick(values))
    return f"{bands[k]} {values[k]:.3g} {unit}"


def _bad_pixels(cutout: Cutout, bands: Sequence[str], window: Any) -> dict[str, str]:
    """Count what mask and noise say is bad: a huge, a non-positive or no noise."""
    for band in map(str.upper, bands):
        bad = np.zeros(cutout.bands[band].shape, bool)
        told = []
        for name, planes in (("mask", cutout.mask), ("noise plane", cutout.noise)):
            plane = planes.get(band, planes.get(""))
            if plane is None:
                continue
            if plane.shape != bad.shape:
                text = f"{name} of {band} is {plane.shape}, its image {bad.shape}"
                return {"band_shape": f"{text}: cut both to the same pixels"}
            bad |= plane if name == "mask" else _without_noise(plane, window)
            told.append(name)
        inside, what = bad[window], " and ".join(told)
        if (share := inside.mean()) > MASKED_FRACTION:
            return {"masked": f"{band} {share:.0%} in its {what}"}
        rows, columns = np.indices(inside.shape) - (len(inside) - 1) / 2
        middle = np.hypot(rows, columns) * cutout.pixel_scale < LENS_RADIUS
        if (share := inside[middle].mean()) > MASKED_AT_CENTRE:
            return {"masked": f"{band} {share:.0%} of the centre in its {what}"}
    return {}


def _without_noise(noise: np.ndarray, window: Any) -> np.ndarray:
    good = np.isfinite(noise) & (noise > 0)
    if good[window].any():
        good &= noise < 1e4 * np.median(noise[window][good[window]])
    return ~good


def _factor(band: str, have: float | None, want: float, flags: dict[str, str]) -> float:
    """From counts at one zero point to counts at another: 10^(0.4 (want - have))."""
    if have is None:
        flags["no_zero_point"] = f"no MAGZERO card, {want:g} assumed"
    elif have != want:
        known = f" ({UNITS[have]})" if have in UNITS else ""
        flags["rescaled"] = f"zero point {have:g}{known} converted to {want:g}"
        return 10 ** (0.4 * (want - have))
    return 1.0


def _times(plane: np.ndarray, factor: float) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow is then flagged as nan_pixel
        return plane if factor == 1 else plane * np.float32(factor)
