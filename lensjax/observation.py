"""One object as it was observed: image, variance, PSF, mask and scale of its pixels.

`read` takes all of it from the object's file where it is there, from the survey where
it is not, and says which.  What comes back is what a fit needs: pure functions of an
`Observation` follow.
"""

import os
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from scipy import ndimage

from lensjax import noise as _noise
from lensjax import psf as _psf
from lensjax.catalogue import cutouts
from lensjax.catalogue.cutouts import Cutout, CutoutError
from lensjax.noise import Noise
from lensjax.render import SUPERSAMPLING, Pixels
from lensjax.survey import Survey

FILE, SURVEY, NONE = "file", "survey", "none"
"""Where a plane came from."""

MOFFAT_BETA = 3.0  # wings of the PSF that a survey's seeing stands for
PSF_REACH = 6.0  # its half width in FWHM: a thousandth of the light lies beyond
UNREAL_NOISE = 1e4  # a noise so many times the median marks a pixel without data


class Observation(NamedTuple):
    """Bands of one object on one grid of pixels; bands last."""

    image: ArrayLike  # (n, n, band) [counts]
    variance: ArrayLike  # (n, n, band) of each pixel [counts^2], positive
    psf: ArrayLike  # (k, k, band) effective PSF on these pixels, k odd, sum 1
    mask: ArrayLike  # (n, n, band) bool, True where a pixel is bad and does not count
    pixel_scale: float  # [arcsec]


class Origin(NamedTuple):
    """Where the planes of an observation come from: "file", "survey" or "none"."""

    psf: str
    variance: str
    mask: str


class Observed(NamedTuple):
    """An observation, and what is to be said of it."""

    observation: Observation
    bands: tuple[str, ...]
    zero_point: float  # AB magnitude of one count, the survey's
    origin: Origin
    flags: dict[str, str]  # warnings -> message


def read(path: str | os.PathLike, survey: Survey) -> Observed:
    """The observation in a file, in the survey's bands and counts.

    Its pixels may be of any size and number, its bands named by EXTNAME; planes NOISE
    or VARIANCE, PSF and MASK, of one band each (PSF_I, I_PSF) or of all, are used where
    they are there.  An image that is not square is framed with masked pixels.

    Raises `lensjax.catalogue.cutouts.CutoutError`, which names file and remedy, where
    there is no such image, or a plane cannot be what its name says.
    """
    cutout = cutouts.read(path, survey.bands)
    try:
        return of_cutout(cutout, survey)
    except CutoutError as error:
        name = os.path.basename(os.fspath(path))
        raise CutoutError(error.flag, f"{name}: {error}") from None


def of_cutout(cutout: Cutout, survey: Survey) -> Observed:
    """The observation that a cutout holds, see `read`."""
    names = [band.upper() for band in survey.bands]
    factors = [_factor(cutout.zero_point[name], survey) for name in names]
    both = zip(names, factors, strict=True)
    planes = [cutout.bands[name] * np.float32(f) for name, f in both]
    image = np.stack(planes, -1)
    bad = ~np.isfinite(image)
    image = np.where(bad, 0, image)

    masks = [_of_band(cutout.mask, name) for name in names]
    for k, mask in enumerate(masks):
        if mask is not None:
            bad[..., k] |= _same_shape("mask", mask, image)
    variance, without = _variance(cutout, names, factors, image, survey)
    bad |= without
    if bad.all():
        raise CutoutError("masked", "no good pixel: leave it out")
    psf, from_file = _kernels(cutout, names, survey)
    has_noise = [_of_band(cutout.noise, name) is not None for name in names]
    observation = Observation(
        image=_squared(image, 0),
        variance=_squared(variance, 1),
        psf=psf,
        mask=_squared(bad, True),
        pixel_scale=float(cutout.pixel_scale),
    )
    origin = Origin(
        psf=_told(from_file),
        variance=_told(has_noise),
        mask=FILE if any(m is not None for m in masks) else NONE,
    )
    flags = dict(cutout.warnings)
    return Observed(observation, survey.bands, survey.zero_point, origin, flags)


def noise(observation: Observation, gain: ArrayLike | None = None) -> Noise:
    """The noise of an observation: its variance, pixel by pixel.

    With a `gain` (band,) [photo-electrons per count] the variance is taken for that of
    the sky alone, and the model's own photons are added to it.
    """
    known = _noise.of_variance(observation.variance)
    if gain is None:
        return known
    return known._replace(gain=jnp.asarray(gain, known.gain.dtype))


def log_likelihood(observation: Observation, model: ArrayLike) -> Array:
    """Logarithm of the probability density of the observation, given its mean.

    model: (n, n, band) [counts].  See `lensjax.noise.log_likelihood`.
    """
    return _noise.log_likelihood(
        noise(observation), observation.image, model, observation.mask
    )


def pixels(
    observation: Observation,
    supersampling: int = SUPERSAMPLING,
    margin: int | None = None,
) -> Pixels:
    """How a model of this observation is rendered; see `lensjax.render`.

    Outside jit: numbers and shapes alone, static.
    """
    reach = observation.psf.shape[0] // 2
    return Pixels(
        observation.image.shape[0],
        float(observation.pixel_scale),
        reach if margin is None else margin,
        supersampling,
    )


# --- planes ---------------------------------------------------------------------------


def _of_band(planes: dict[str, np.ndarray], band: str) -> np.ndarray | None:
    return planes.get(band, planes.get(""))


def _told(from_file: list[bool]) -> str:
    """Where bands' planes came from, "file+survey" where they differ."""
    if all(from_file):
        return FILE
    return f"{FILE}+{SURVEY}" if any(from_file) else SURVEY


def _factor(zero_point: float | None, survey: Survey) -> float:
    """From the file's counts to the survey's."""
    if zero_point is None:
        return 1.0
    return 10 ** (0.4 * (survey.zero_point - zero_point))


def _same_shape(what: str, plane: np.ndarray, image: np.ndarray) -> np.ndarray:
    if plane.shape != image.shape[:2]:
        text = f"a {what} of {plane.shape} pixels beside an image of {image.shape[:2]}"
        raise CutoutError("band_shape", f"{text}: cut both to one shape")
    return plane


def _variance(cutout, names, factors, image, survey) -> tuple[np.ndarray, np.ndarray]:
    """Variance, positive everywhere, and the pixels that have none of their own."""
    # the photons of a smoothed image: noise that follows its own pixel's noise biases
    smooth = ndimage.gaussian_filter(image, (1, 1, 0), mode="nearest")
    scale = cutout.pixel_scale / survey.pixel_scale
    known = _noise.of_survey(survey)
    known = known._replace(background=known.background * scale**2)
    variance = np.array(_noise.variance(known, smooth))
    without = np.zeros(image.shape, bool)
    for k, (name, factor) in enumerate(zip(names, factors, strict=True)):
        plane = _of_band(cutout.noise, name)
        if plane is None:
            continue
        sigma = _same_shape("noise plane", plane, image) * factor
        good = np.isfinite(sigma) & (sigma > 0)
        if good.any():
            good &= sigma < UNREAL_NOISE * np.median(sigma[good])
        variance[..., k] = np.where(good, sigma, 1) ** 2
        without[..., k] = ~good
    return variance.astype(np.float32), without


def _kernels(cutout, names, survey) -> tuple[np.ndarray, list[bool]]:
    """PSFs (k, k, band) of one size, and which are the file's own."""
    kernels, own = [], []
    for name, fwhm in zip(names, survey.fwhm, strict=True):
        plane = _of_band(cutout.psf, name)
        own.append(plane is not None)
        if plane is None:
            scale = cutout.pixel_scale
            size = 2 * round(PSF_REACH * fwhm / scale) + 1
            kernel = _psf.moffat(fwhm, MOFFAT_BETA, 0.0, 0.0, size, scale)
            kernels.append(np.asarray(kernel))
            continue
        try:
            kernels.append(_psf.centre(plane))
        except ValueError as error:
            raise CutoutError("bad_psf", f"PSF of {name}: {error}") from error
    size = max(kernel.shape[0] for kernel in kernels)
    framed = [np.pad(k, (size - k.shape[0]) // 2) for k in kernels]
    return np.stack(framed, -1).astype(np.float32), own


def _squared(planes: np.ndarray, fill: Any) -> np.ndarray:
    """Planes (ny, nx, band) in a square about the same middle, filled up."""
    ny, nx, _ = planes.shape
    if (ny - nx) % 2:
        text = f"{ny} x {nx}: cut to sides that are both even or both odd"
        raise CutoutError("band_shape", text)
    y, x = (max(nx - ny, 0) // 2, max(ny - nx, 0) // 2)
    return np.pad(planes, ((y, y), (x, x), (0, 0)), constant_values=fill)
