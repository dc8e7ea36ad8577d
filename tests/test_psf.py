"""Point spread functions: what a kernel does to an image, held against plain sums."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from lensjax import psf
from lensjax.catalogue import cutouts

SIGMA = 1.6  # of a Gaussian PSF [survey pixel]: its spectrum is gone at the sampling
DATA = Path(os.environ.get("LENSJAX_DATA", Path(__file__).parents[2] / "shared/data"))

blur_and_sample = jax.jit(psf.blur_and_sample, static_argnums=2)


def gaussian_kernel(size, sigma=SIGMA):
    axis = np.arange(size) - size // 2
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    return kernel / (2 * np.pi * sigma**2)


def fine_axis(n, factor):
    """Where fine pixels lie on the survey's pixel axis 0, 1, ..., n - 1."""
    return (np.arange(n * factor) + 0.5) / factor - 0.5


def some_scene(rng, n, factor, channels):
    """A rough scene in the middle quarter, away from the periodic edge."""
    scene = np.zeros((n * factor, n * factor, channels))
    edge = 3 * n // 8 * factor
    inner = n * factor - 2 * edge
    scene[edge:-edge, edge:-edge] = rng.random((inner, inner, channels)) ** 4
    return scene


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_blurred_image_is_the_sum_of_the_psfs_of_its_pixels(dtype, rng, factor):
    n = 32
    scene = some_scene(rng, n, factor, 2)
    kernels = np.stack([gaussian_kernel(23), gaussian_kernel(23, 1.9)], -1)
    distance2 = (np.arange(n)[:, None] - fine_axis(n, factor)) ** 2
    expected = np.stack(
        [
            g @ scene[..., c] @ g.T / (2 * np.pi * s**2)
            for c, s in enumerate((SIGMA, 1.9))
            for g in [np.exp(-distance2 / (2 * s**2))]
        ],
        -1,
    )
    seen = blur_and_sample(
        jnp.asarray(scene, dtype), jnp.asarray(kernels, dtype), factor
    )
    assert seen.dtype == dtype and seen.shape == (n, n, 2)
    np.testing.assert_allclose(seen, expected, atol=3e-5 * expected.max())


@pytest.mark.parametrize("factor", [2, 3])
def test_a_star_stays_where_it_is_to_a_thousandth_of_a_pixel(x64, factor):
    n = 32
    axis = fine_axis(n, factor)
    for row, column in [(33, 31), (34, 36), (30, 37)]:
        scene = np.zeros((n * factor, n * factor, 1))
        scene[row * factor // 2, column * factor // 2] = 1
        kernel = gaussian_kernel(31)[..., None]
        seen = np.asarray(
            blur_and_sample(jnp.asarray(scene), jnp.asarray(kernel), factor)
        )
        centroid = ndimage.center_of_mass(seen[..., 0])
        truth = axis[row * factor // 2], axis[column * factor // 2]
        np.testing.assert_allclose(centroid, truth, atol=1e-3)


@pytest.mark.parametrize(("factor", "tolerance"), [(1, 1e-5), (3, 1e-3)])
def test_flux_is_conserved_where_none_leaves_the_image(dtype, rng, factor, tolerance):
    """For any kernel pixel by pixel; between pixels for one that is band-limited."""
    edge = 8 * factor
    scene = np.pad(rng.random((edge, edge, 1)), ((edge, edge), (edge, edge), (0, 0)))
    kernel = rng.random((9, 9)) if factor == 1 else gaussian_kernel(15, 1.8)
    kernel = jnp.asarray(kernel[..., None] * [1.0, 2.0, 3.0], dtype)
    seen = blur_and_sample(jnp.asarray(scene, dtype), kernel, factor)
    expected = scene.sum() * kernel.sum((0, 1))
    np.testing.assert_allclose(seen.sum((0, 1)), expected, rtol=tolerance)


def test_a_kernel_of_one_pixel_changes_only_the_sampling(x64, rng):
    scene = jnp.asarray(rng.random((10, 10, 2)))
    nothing = jnp.ones((1, 1, 2))
    np.testing.assert_allclose(blur_and_sample(scene, nothing, 1), scene, atol=1e-12)


def test_a_kernel_wider_than_the_image_spreads_each_pixel_over_all_of_it(x64):
    scene = jnp.zeros((16, 16, 1)).at[2, 1, 0].set(1.0)
    wide = gaussian_kernel(43, 2.5)
    seen = blur_and_sample(scene, jnp.asarray(wide[..., None]), 1)[..., 0]
    np.testing.assert_allclose(seen, wide[19:35, 20:36], atol=1e-12)


@pytest.mark.parametrize("n", [12, 13])
def test_light_at_one_edge_does_not_come_round_to_the_other(x64, n):
    """A direct sum over pixels, for images of even and odd size."""
    kernel = gaussian_kernel(11, 2.5)
    scene = np.zeros((n, n))
    scene[0, n - 2], scene[n - 1, 3] = 1.0, 0.5
    direct = np.zeros((n + 10, n + 10))
    for y, x in np.argwhere(scene):
        direct[y : y + 11, x : x + 11] += scene[y, x] * kernel
    seen = blur_and_sample(jnp.asarray(scene)[..., None], kernel[..., None], 1)
    np.testing.assert_allclose(seen[..., 0], direct[5 : n + 5, 5 : n + 5], atol=1e-12)


@pytest.mark.parametrize("shape", [(24, 24), (11, 13)])
def test_a_kernel_without_a_middle_pixel_is_refused(shape):
    with pytest.raises(ValueError, match="odd size"):
        blur_and_sample(jnp.ones((16, 16, 1)), jnp.ones((*shape, 1)), 1)
    with pytest.raises(ValueError, match="must be odd"):
        psf.moffat(0.7, 3.0, 0.0, 0.0, 24, 0.168)


def test_a_measured_kernel_of_even_size_gets_a_middle_pixel():
    """Four middle pixels share a Gaussian's peak: centred, it is the odd one."""
    axis = np.arange(24) - 11.5
    even = np.exp(-(axis[None] ** 2 + axis[:, None] ** 2) / (2 * 1.6**2))
    made = psf.centre(even)
    assert made.shape == (25, 25)
    np.testing.assert_allclose(made, gaussian_kernel(25, 1.6), atol=1e-5)


def test_a_scene_alike_in_all_bands_needs_one_channel(dtype, rng):
    one = jnp.asarray(some_scene(rng, 16, 3, 1), dtype)
    kernels = np.stack([gaussian_kernel(15, s) for s in (1.2, 1.5, 1.8, 2.0)], -1)
    kernels = jnp.asarray(kernels, dtype)
    many = jnp.repeat(one, 4, -1)
    np.testing.assert_allclose(
        blur_and_sample(one, kernels, 3),
        blur_and_sample(many, kernels, 3),
        rtol=1e-6,
        atol=1e-6,
    )


@functools.cache
def hsc_psf():
    path = min((DATA / "hsc" / "psfs").glob("*.fits"), default=None)
    if path is None:
        pytest.skip(f"no HSC PSFs in {DATA}: set LENSJAX_DATA")
    return {b: psf.centre(k) for b, k in cutouts.read(path).bands.items()}


@pytest.mark.parametrize("band", ["G", "I"])
@pytest.mark.parametrize("factor", [3, 4])
def test_a_real_hsc_psf_acts_as_its_spline(x64, rng, band, factor):
    kernel, n = hsc_psf()[band], 44
    # the kernel between its pixels: a spline here, a Fourier series in psf.py
    reach = 21 * factor
    axis = (np.arange(-reach, reach) + (0.5 if factor % 2 == 0 else 0)) / factor + 21
    fine_kernel = ndimage.map_coordinates(kernel, np.meshgrid(axis, axis), order=5).T
    scene = ndimage.gaussian_filter(some_scene(rng, n, factor, 1)[..., 0], 0.5 * factor)
    whole = signal.fftconvolve(scene, fine_kernel)
    # entry i + j of the convolution is pixel i moved by axis[j]
    first = factor // 2 if factor % 2 else factor // 2 - 1
    picked = slice(first + reach, first + reach + n * factor, factor)
    expected = whole[picked, picked]
    seen = blur_and_sample(
        jnp.asarray(scene[..., None]), jnp.asarray(kernel[..., None]), factor
    )[..., 0]
    np.testing.assert_allclose(seen, expected, atol=2e-3 * expected.max())


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.5])
def test_moffat_has_half_its_peak_at_half_its_fwhm(x64, beta):
    kernel = np.asarray(psf.moffat(4.0, beta, 0.0, 0.0, 43, 0.5))
    middle = kernel[21, 21]
    np.testing.assert_allclose(kernel.sum(), 1)
    np.testing.assert_allclose(kernel[21, 25] / middle, 0.5, rtol=1e-6)
    np.testing.assert_allclose(kernel[25, 21] / middle, 0.5, rtol=1e-6)
    far = psf.moffat(0.1, beta, 0.0, 0.0, 43, 0.5)
    np.testing.assert_allclose(far[21, 41] / far[21, 31], 4**-beta, rtol=3e-3)


@pytest.mark.parametrize("angle", [0.0, np.pi / 4, 2.0])
def test_moffat_ellipticity_is_that_of_its_isophotes(x64, angle):
    e = 0.1
    args = 6.0, 3.0, e * np.cos(2 * angle), e * np.sin(2 * angle)

    def along(direction):
        """Radius of half the peak, from a kernel sampled finely."""
        kernel = np.asarray(psf.moffat(*args, 161, 0.1))
        steps = np.linspace(0, 70, 700)
        at = 80 + steps * np.sin(direction), 80 + steps * np.cos(direction)
        profile = ndimage.map_coordinates(kernel, at, order=3) / kernel.max()
        return np.interp(-0.5, -profile, steps)

    a, b = along(angle), along(angle + np.pi / 2)
    np.testing.assert_allclose((a - b) / (a + b), e, rtol=1e-3)


@pytest.mark.parametrize("offset", [(0.3, -0.45), (-1.2, 0.7), (3.0, -2.0)])
def test_centring_puts_a_measured_psf_on_its_middle_pixel(offset):
    axis = np.arange(43) - 21.0
    moved = [np.exp(-((axis - o) ** 2) / (2 * SIGMA**2)) for o in offset]
    found = psf.centre(7 * moved[1][:, None] * moved[0])
    np.testing.assert_allclose(found.sum(), 1)
    # a thousandth of a pixel moves 4e-4 of the peak
    expected = gaussian_kernel(43)
    np.testing.assert_allclose(found, expected, atol=4e-4 * expected.max())


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (np.ones((41, 43)), "square"),
        (np.ones(43), "square"),
        (np.full((5, 5), np.nan), "finite"),
        (-np.ones((5, 5)), "positive sum"),
        (np.eye(1, 441, 22).reshape(21, 21), "off centre"),
    ],
)
def test_what_is_no_psf_is_refused(kernel, words):
    with pytest.raises(ValueError, match=words):
        psf.centre(kernel)


def test_a_psf_on_finer_pixels_is_sampled_at_the_middles_of_the_surveys(x64, rng):
    """Three kernel pixels to a survey pixel: the sum over all kernels, by hand."""
    n, factor, o = 8, 6, 3
    fine = np.zeros((n * factor, n * factor, 1))
    fine[20:28, 18:30] = rng.random((8, 12, 1))
    sigma = 2.0  # [kernel pixels]: two thirds of a survey pixel
    kernel = gaussian_kernel(23, sigma)[..., None]
    seen = psf.blur_and_sample(jnp.asarray(fine), jnp.asarray(kernel), factor, o)
    centres = (np.arange(n) + 0.5) * factor - 0.5  # in fine pixels
    width = sigma * factor / o
    at = np.exp(-((centres[:, None] - np.arange(n * factor)) ** 2) / (2 * width**2))
    at /= np.sqrt(2 * np.pi) * width
    expected = factor**2 * at @ fine[..., 0] @ at.T
    np.testing.assert_allclose(seen[..., 0], expected, atol=2e-4 * expected.max())
