"""Moments and fluxes of images against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import photometry
from lensjax.photometry import Moments

moments = jax.jit(photometry.moments)
background_rms = jax.jit(photometry.background_rms)


def gaussian(n, xx, xy, yy, x=0.0, y=0.0, flux=1000.0):
    """Elliptical Gaussian of covariance ((xx, xy), (xy, yy)) about (x, y)."""
    axis = np.arange(n) - (n - 1) / 2
    dx, dy = axis - x, axis[:, None] - y
    det = xx * yy - xy**2
    chi2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
    return flux * np.exp(-chi2 / 2) / (2 * np.pi * np.sqrt(det))


def covariance(q, phi, size):
    """Of an ellipse of axis ratio q, major axis at phi, geometric-mean axis size."""
    c, s = np.cos(phi), np.sin(phi)
    a2, b2 = size**2 / q, size**2 * q
    return a2 * c**2 + b2 * s**2, (a2 - b2) * c * s, a2 * s**2 + b2 * c**2


@pytest.mark.parametrize("q", [1.0, 0.8, 0.5])
@pytest.mark.parametrize("phi", [0.0, 0.6, np.pi / 2, 2.5])
def test_moments_of_an_elliptical_gaussian_are_its_covariance(dtype, q, phi):
    truth = covariance(q, phi, 4.0)
    image = gaussian(64, *truth, x=0.7, y=-1.3)
    found = moments(jnp.asarray(image, dtype))
    near = 1e-4 if dtype == jnp.float32 else 1e-6
    np.testing.assert_allclose(found[:2], (0.7, -1.3), atol=10 * near)
    np.testing.assert_allclose(found[2:], truth, atol=16 * near)
    e = (1 - q**2) / (1 + q**2)
    expected = e * np.cos(2 * phi), e * np.sin(2 * phi)
    np.testing.assert_allclose(photometry.ellipticity(found), expected, atol=2 * near)


def test_a_neighbour_hardly_changes_the_moments(x64):
    own = covariance(0.7, 0.4, 3.0)
    alone = gaussian(64, *own)
    beside = alone + gaussian(64, 4.0, 0.0, 4.0, x=16.0, y=9.0, flux=700.0)
    found = moments(jnp.asarray(beside))
    np.testing.assert_allclose(found[2:], own, rtol=0.02, atol=0.02)
    # plain second moments would be ruled by it
    axis = np.arange(64) - 31.5
    plain = (beside * axis**2).sum() / beside.sum()
    assert plain > 3 * own[0]


@pytest.mark.parametrize("image", ["empty", "noise", "negative"])
def test_moments_of_no_galaxy_are_finite(rng, image):
    pixels = {"empty": 0.0, "noise": rng.normal(size=(64, 64)), "negative": -1.0}
    found = moments(jnp.broadcast_to(jnp.asarray(pixels[image], jnp.float32), (64, 64)))
    assert np.isfinite(found).all()
    assert found.xx * found.yy > found.xy**2
    assert np.hypot(*photometry.ellipticity(found)) < 1


def test_unblurred_moments_are_exact_for_gaussians(x64):
    # convolving Gaussians adds their covariances
    own, blur = covariance(0.6, 1.1, 3.0), covariance(0.9, 0.2, 1.8)
    seen = gaussian(64, *np.add(own, blur))
    star = gaussian(43, *blur)
    found = photometry.without_psf(
        moments(jnp.asarray(seen)), photometry.moments(jnp.asarray(star), start=2.0)
    )
    np.testing.assert_allclose(found[2:], own, rtol=1e-5)


def test_a_galaxy_no_wider_than_the_psf_keeps_a_tenth_of_its_variance(x64):
    zero = jnp.zeros(())
    star = Moments(zero, zero, zero + 4.0, zero + 1.0, zero + 4.0)
    galaxy = Moments(zero, zero, zero + 4.1, zero - 1.0, zero + 3.0)
    found = photometry.without_psf(galaxy, star)
    np.testing.assert_allclose((found.xx, found.yy), (0.41, 0.3))
    assert np.hypot(*photometry.ellipticity(found)) < 1


def test_aperture_flux_adds_the_pixels_within_its_radius(dtype, rng):
    image = rng.random((12, 12, 3))
    y, x = np.indices((12, 12)) - 5.5
    found = photometry.aperture_flux(jnp.asarray(image, dtype), 3.7)
    expected = image[np.hypot(x, y) < 3.7].sum(0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plane = photometry.aperture_flux(jnp.asarray(image[..., 1], dtype), 3.7)
    np.testing.assert_allclose(plane, expected[1], rtol=1e-6)


@pytest.mark.parametrize("galaxy_in", range(4))
def test_background_is_measured_in_the_corner_with_the_faintest_maximum(galaxy_in, rng):
    n, k, sigma = 64, 6, np.array([0.04, 0.08])
    sky = sigma * rng.normal(size=(n, n, 2))
    corners = [np.s_[:k, :k], np.s_[:k, -k:], np.s_[-k:, :k], np.s_[-k:, -k:]]
    # stars stand in all corners but one, another one in each band
    for band, empty in enumerate((galaxy_in, (galaxy_in + 1) % 4)):
        for c, corner in enumerate(corners):
            if c != empty:
                sky[corner][2, 3, band] += 5.0
    found = background_rms(jnp.asarray(sky, jnp.float32))
    for band, empty in enumerate((galaxy_in, (galaxy_in + 1) % 4)):
        plain = sky[corners[empty]][..., band]
        np.testing.assert_allclose(found[band], plain.std(), rtol=1e-5)
        assert 0.6 * sigma[band] < found[band] < 1.4 * sigma[band]


def test_background_of_smooth_light_is_not_noise(rng):
    # the corners of a small cutout still hold lens light: a level, not a scatter
    sky = 0.05 * rng.normal(size=(64, 64, 1))
    lit = background_rms(jnp.asarray(sky + 3.0, jnp.float32))
    np.testing.assert_allclose(lit, background_rms(jnp.asarray(sky, jnp.float32)), 1e-4)
