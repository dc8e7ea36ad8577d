"""Point spread functions: kernels on the survey's pixels, and what they do to an image.

A kernel here is an *effective* PSF, the image of a star as the survey's pixels record
it, pixel response included: what HSC's PSF picker and a star cutout give.  A blurred
image is therefore sampled at the pixel centres, not averaged over pixels again, which
would count the pixel twice.  Kernels have odd size and are centred on their middle
pixel.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from scipy.fft import next_fast_len

from lensjax import units
from lensjax.survey import Survey

SEEINGS = 256  # different PSFs that stand for a survey's seeing


@units.convert(fwhm="arcsec", beta="", e1="", e2="", pixel_scale="arcsec")
def moffat(
    fwhm: ArrayLike,
    beta: ArrayLike,
    e1: ArrayLike,
    e2: ArrayLike,
    size: int,
    pixel_scale: float,
) -> Array:
    """Moffat kernel (size, size), sum 1; fwhm [arcsec], wings r^(-2 beta).

    (e1, e2) is the ellipticity (a - b) / (a + b) along the doubled angle; small.
    `size` is odd: the kernel is centred on its middle pixel.
    """
    if size % 2 == 0:
        raise ValueError(f"size must be odd, got {size}: take {size + 1}")
    dtype = jnp.result_type(fwhm, 1.0)
    offset = (jnp.arange(size, dtype=dtype) - (size - 1) / 2) * pixel_scale
    x, y = offset[None, :], offset[:, None]
    wx, wy = (1 - e1) * x - e2 * y, (1 + e1) * y - e2 * x
    scale2 = (jnp.asarray(fwhm) / 2) ** 2 / (2 ** (1 / jnp.asarray(beta)) - 1)
    kernel = (1 + (wx**2 + wy**2) / scale2) ** -jnp.asarray(beta)
    return kernel / kernel.sum()


def seeing(key: Array, survey: Survey, size: int = 43) -> Array:
    """PSFs of one place on the sky (size, size, band), drawn: Moffats, nearly round.

    The survey's median seeing with the scatter of HSC Wide's: docs/mocks.md.
    """
    k_common, k_band, k_beta, k_shape = jax.random.split(key, 4)
    bands = len(survey.bands)
    scatter = 0.07 * jax.random.normal(k_common) + 0.10 * jax.random.normal(
        k_band, (bands,)
    )
    fwhm = jnp.array(survey.fwhm)
    # there is no seeing in space
    scatter = jnp.where(fwhm > 0.3, scatter, 0.1 * scatter)
    fwhm = fwhm * jnp.clip(jnp.exp(scatter), 0.7, 1.6)
    beta = jax.random.uniform(k_beta, (bands,), minval=2.5, maxval=4.5)
    # the ellipticity is (a^2 - b^2) / (a^2 + b^2); a Moffat's (a - b) / (a + b) is half
    e1, e2 = 0.005 * jax.random.normal(k_shape, (2, bands))
    scale = survey.pixel_scale / survey.psf_oversampling
    return jax.vmap(lambda f, b, u, v: moffat(f, b, u, v, size, scale), out_axes=-1)(
        fwhm, beta, e1, e2
    )


def centre(kernel: ArrayLike) -> np.ndarray:
    """Measured kernel (n, n) with its centroid on the middle pixel and sum 1.

    Shifted in Fourier space: exact for a kernel that the pixels sample well.  One of
    even size, whose middle lies between pixels, comes back a pixel larger.  Raises
    ValueError where shape, sum or centroid say that this is no PSF.
    """
    kernel = np.asarray(kernel, float)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"a PSF kernel is square, not {kernel.shape}")
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        raise ValueError("a PSF kernel is finite and has a positive sum")
    if kernel.shape[0] % 2 == 0:
        kernel = np.pad(kernel, (0, 1))
    n = kernel.shape[0]
    kernel = kernel / kernel.sum()
    offset = np.arange(n) - n // 2
    k = np.fft.fftfreq(n)
    spectrum, centred, dx, dy = np.fft.fft2(kernel), kernel, 0.0, 0.0
    for _ in range(8):  # the core's edge moves with the shift
        # the core alone: in the wings noise weighs more than light
        core = np.maximum(centred - 0.1 * centred.max(), 0)
        dx += (core * offset[None, :]).sum() / core.sum()
        dy += (core * offset[:, None]).sum() / core.sum()
        if max(abs(dx), abs(dy)) > n / 4:
            raise ValueError(f"the PSF is off centre by ({dx:.1f}, {dy:.1f}) pixels")
        phase = np.exp(2j * np.pi * (k[:, None] * dy + k[None, :] * dx))
        centred = np.fft.ifft2(spectrum * phase).real
    return centred


def blur_and_sample(
    fine: Array, kernel: Array, factor: int, oversampling: int = 1
) -> Array:
    """What the survey's pixels record of a finely sampled image, seen through a PSF.

    Parameters
    ----------
    fine : array (n * factor, n * factor, c)
        Flux per fine pixel; c = 1 for a scene that looks alike in all bands, else the
        number of bands.  Nothing shines outside it.
    kernel : array (k, k, band)
        Effective PSF on the survey's pixels, k odd (`centre` makes it so).
    factor : int
        Fine pixels along the side of one survey pixel.
    oversampling : int
        Kernel pixels along the side of one survey pixel, odd, a divisor of `factor`:
        for a PSF that the survey's pixels undersample.

    Returns
    -------
    array (n, n, band)
        Flux per survey pixel.

    Notes
    -----
    The kernel is taken for band-limited at the survey's sampling (Fourier
    interpolation; right for seeing above two pixels), so of the fine image only the low
    frequencies count: one large transform forward, a small one back.
    """
    check_kernel(kernel)
    if oversampling > 1:
        o = oversampling
        finer = blur_and_sample(fine, kernel, factor // o)
        # of each survey pixel the kernel pixel in its middle, for all of them
        return finer[o // 2 :: o, o // 2 :: o] * o**2
    n = fine.shape[0] // factor
    k = kernel.shape[0]
    if k >= 2 * n:  # no two pixels of the image are so far apart
        cut = (k - 2 * n) // 2 + 1
        kernel = kernel[cut : k - cut, cut : k - cut]
        k = kernel.shape[0]
    # a transform is periodic: zeros behind the image take up what would come round
    m = next_fast_len(n + k // 2, real=True)
    m += m % 2
    # bands first: a transform along contiguous axes is four times as fast on a CPU
    fine, kernel = jnp.moveaxis(fine, -1, 0), jnp.moveaxis(kernel, -1, 0)
    columns = np.arange(m // 2 + 1)
    rows = np.fft.fftfreq(m, 1 / m)  # 0, 1, ..., -2, -1

    # along rows, then only the low columns, which lie along memory once transposed
    spectrum = jnp.fft.rfft(fine, m * factor)[..., : m // 2 + 1]
    spectrum = jnp.fft.fft(jnp.swapaxes(spectrum, 1, 2), m * factor)
    low = [spectrum[..., : m // 2], spectrum[..., m * factor - m // 2 :]]
    spectrum = jnp.swapaxes(jnp.concatenate(low, -1), 1, 2)
    # fine pixel j lies at j / factor + (1 / factor - 1) / 2 on the survey's pixel axis
    shift = (1 - 1 / factor) / (2 * m)
    phase = np.exp(2j * np.pi * shift * (rows[:, None] + columns[None, :]))

    padded = jnp.zeros((kernel.shape[0], m, m), kernel.dtype).at[:, :k, :k].set(kernel)
    transfer = jnp.fft.rfft2(jnp.roll(padded, (-(k // 2), -(k // 2)), (1, 2)))
    spectrum = spectrum * transfer * jnp.asarray(phase, spectrum.dtype)[None]
    blurred = jnp.fft.irfft2(spectrum, s=(m, m))[:, :n, :n]
    return jnp.moveaxis(blurred, 0, -1)


def check_kernel(kernel: Array) -> None:
    """Raise ValueError unless a kernel (k, k, ...) has a middle pixel."""
    k, *others = kernel.shape[:2]
    if others != [k] or k % 2 == 0:
        raise ValueError(
            f"a PSF kernel is square with odd size, centred on its middle pixel, not "
            f"{kernel.shape[0]} x {kernel.shape[1]}: lensjax.psf.centre makes it so, "
            "band by band"
        )
