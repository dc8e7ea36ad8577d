"""Observations: what is taken from an object's file, and what from the survey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.io import fits
from scipy import stats

from lensjax import observation, psf, render
from lensjax.catalogue.cutouts import CutoutError
from lensjax.survey import DES, HSC

BANDS = ("G", "R", "I", "Z")


def star(size=25, sigma=1.6):
    axis = np.arange(size) - size // 2
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def galaxy(ny=64, nx=64, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    y, x = np.arange(ny)[:, None] - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    light = 30 * np.exp(-(y**2 + x**2) / 32)
    return {
        b: scale * (light * f + s * rng.standard_normal((ny, nx)))
        for b, s, f in zip(BANDS, HSC.sky_sigma, (0.3, 0.7, 1.0, 1.3), strict=True)
    }


def write(path, planes, **cards):
    hdus = [fits.PrimaryHDU()]
    for name, plane in planes.items():
        hdu = fits.ImageHDU(np.asarray(plane, plane_type(name)), name=name)
        hdu.header.update({"PIXSCALE": 0.168, "MAGZERO": 27.0} | cards)
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def plane_type(name):
    return np.int32 if "MASK" in name else np.float32


def test_what_the_file_lacks_is_the_surveys_and_is_said_so(tmp_path):
    planes = galaxy()
    found = observation.read(write(tmp_path / "a.fits", planes), HSC)
    data, origin = found.observation, found.origin
    assert origin == ("survey", "survey", "none") and found.bands == BANDS
    assert found.zero_point == 27.0 and data.pixel_scale == 0.168
    np.testing.assert_allclose(data.image[..., 2], planes["I"], rtol=1e-6)
    assert not data.mask.any()
    # the sky's variance in a corner, and photons in the middle
    for k, sky in enumerate(HSC.sky_sigma):
        assert data.variance[0, 0, k] == pytest.approx(sky**2, rel=0.01)
        middle = sky**2 + data.image[30:34, 30:34, k].mean() / HSC.gain[k]
        assert data.variance[31, 31, k] == pytest.approx(middle, rel=0.05)
    # the survey's seeing: half of the peak at half of the width
    k = data.psf.shape[0] // 2
    for b, fwhm in enumerate(HSC.fwhm):
        line = data.psf[k, k:, b] / data.psf[k, k, b]
        width = np.interp(-0.5, -line, np.arange(k + 1)) * 2 * 0.168
        assert width == pytest.approx(fwhm, rel=0.03)
    np.testing.assert_allclose(data.psf.sum((0, 1)), 1, rtol=1e-5)


@pytest.mark.parametrize("each", ["all", "{}_", "_{}"])
def test_the_files_own_planes_are_used(tmp_path, each):
    """One plane for all bands, or one a band by either way of naming it."""

    def named(kind, plane):
        if each == "all":
            return {kind: plane}
        form = f"{{}}_{kind}" if each == "{}_" else f"{kind}_{{}}"
        return {form.format(b): plane for b in BANDS}

    noise = np.full((64, 64), 0.2)
    noise[3, 4], noise[5, 6], noise[7, 8] = 1e8, np.nan, -1
    mask = np.zeros((64, 64))
    mask[10, 11] = 4
    planes = (
        galaxy() | named("NOISE", noise) | named("PSF", star()) | named("MASK", mask)
    )
    found = observation.read(write(tmp_path / "a.fits", planes), HSC)
    data = found.observation
    assert found.origin == ("file", "file", "file")
    bad = np.zeros((64, 64), bool)
    bad[[3, 5, 7, 10], [4, 6, 8, 11]] = True
    for k in range(4):
        np.testing.assert_array_equal(data.mask[..., k], bad)
        np.testing.assert_allclose(data.variance[..., k][~bad], 0.04, rtol=1e-6)
        np.testing.assert_allclose(data.psf[..., k], star(), atol=1e-6)
    assert (data.variance > 0).all() and np.isfinite(data.image).all()


def test_a_variance_plane_is_the_variance(tmp_path):
    planes = galaxy() | {"VARIANCE": np.full((64, 64), 0.09), "PSF_I": star(21)}
    found = observation.read(write(tmp_path / "a.fits", planes), HSC)
    np.testing.assert_allclose(found.observation.variance, 0.09, rtol=1e-6)
    assert found.origin.psf == "file+survey" and found.origin.variance == "file"


def test_other_counts_are_brought_to_the_surveys(tmp_path):
    noise = {"NOISE": np.full((64, 64), 0.2 * 10**1.2)}
    planes = galaxy(scale=10**1.2) | noise
    far = observation.read(write(tmp_path / "a.fits", planes, MAGZERO=30.0), HSC)
    near = observation.read(write(tmp_path / "b.fits", galaxy()), HSC)
    one, other = far.observation, near.observation
    np.testing.assert_allclose(one.image, other.image, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one.variance, 0.04, rtol=1e-5)


@pytest.mark.parametrize("shape", [(51, 51), (50, 64), (61, 45)])
def test_images_of_any_size_become_square_with_the_rest_masked(tmp_path, shape):
    planes = galaxy(*shape)
    found = observation.read(write(tmp_path / "a.fits", planes), HSC)
    data, (ny, nx), n = found.observation, shape, max(shape)
    assert data.image.shape == data.mask.shape == (n, n, 4)
    y, x = (n - ny) // 2, (n - nx) // 2
    inside = np.zeros((n, n), bool)
    inside[y : y + ny, x : x + nx] = True
    np.testing.assert_array_equal(data.mask[..., 0], ~inside)
    kept = data.image[y : y + ny, x : x + nx, 1]
    np.testing.assert_allclose(kept, planes["R"], rtol=1e-6)
    assert observation.pixels(data).size == n


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ({"PSF": np.full((25, 25), np.nan)}, "PSF of G"),
        ({"PSF": np.ones((25, 21))}, "square"),
        (dict.fromkeys(BANDS, np.full((64, 64), np.nan)), "no good pixel"),
    ],
)
def test_what_cannot_be_is_refused_by_the_files_name(tmp_path, planes, words):
    path = write(tmp_path / "bad.fits", galaxy() | planes)
    with pytest.raises(CutoutError, match=words) as caught:
        observation.read(path, HSC)
    assert str(caught.value).startswith("bad.fits: ")


def test_the_likelihood_is_of_the_pixels_that_count(tmp_path):
    planes = galaxy()
    planes["G"] = planes["G"].copy()
    planes["G"][20, 20] = np.nan
    data = observation.read(write(tmp_path / "a.fits", planes), HSC).observation
    model = data.image + 0.01
    found = observation.log_likelihood(data, model)
    each = stats.norm.logpdf(data.image, model, np.sqrt(data.variance))
    np.testing.assert_allclose(found, each[~data.mask].sum(), rtol=1e-5)
    own = observation.noise(data, gain=np.full(4, 10.0))
    brighter = observation._noise.variance(own, model)
    np.testing.assert_allclose(
        brighter - data.variance, np.maximum(model, 0) / 10, atol=1e-4
    )


def test_a_model_is_rendered_on_the_observations_pixels(tmp_path):
    kernel = psf.moffat(0.9, 3.0, 0.0, 0.0, 21, 0.263)
    planes = galaxy(40, 40) | {"PSF": kernel}
    path = write(tmp_path / "a.fits", planes, PIXSCALE=0.263, MAGZERO=30.0)
    data = observation.read(path, DES).observation
    pixels = observation.pixels(data, supersampling=3)
    assert (pixels.size, pixels.scale, pixels.margin) == (40, 0.263, 10)
    source = render.light.Sersic(jnp.ones(4), 0.5, 1.0, 0.0, 0.0)
    seen = jax.jit(render.unlensed, static_argnums=2)(source, data.psf, pixels)
    assert seen.shape == data.image.shape
    np.testing.assert_allclose(seen.sum((0, 1)), 1, atol=0.01)
