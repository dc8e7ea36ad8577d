"""From a scene to pixels, against closed forms and a wider rendering."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import light, mock, psf, render, sie
from lensjax.lens import Lens
from lensjax.render import Pixels
from lensjax.shear import Shear
from lensjax.survey import EUCLID, HSC

BLUR = 0.28  # sigma of the PSF [arcsec]
LENS = Lens(sie.SIE(0.9, 0.2, -0.1, 0.05, -0.03), Shear(0.03, -0.02))
SOURCE = light.Sersic(np.array([3.0, 5.0]), 0.2, 1.0, 0.1, 0.2, 0.1, 0.05)

lensed = jax.jit(render.lensed, static_argnums=3)
unlensed = jax.jit(render.unlensed, static_argnums=2)


def of(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def gaussian_psf(size, scale, dtype, bands=2):
    axis = (np.arange(size) - size // 2) * scale
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * BLUR**2))
    kernel *= scale**2 / (2 * np.pi * BLUR**2)
    return jnp.asarray(np.repeat(kernel[..., None], bands, -1), dtype)


@pytest.mark.parametrize(("n", "scale"), [(24, 0.168), (31, 0.12)])
def test_gaussians_are_seen_with_the_psfs_variance_added(dtype, n, scale):
    """Even and odd numbers of pixels of any size, light beyond the frame included."""
    galaxy = light.MultiGaussian(
        np.array([[3.0, 1.0], [2.0, 4.0]]), np.array([0.3, 1.2]), 0.0, 0.0, 0.4, -0.2
    )
    kernel = gaussian_psf(33, scale, dtype)
    pixels = Pixels(n, scale, margin=16)
    seen = unlensed(of(galaxy, dtype), kernel, pixels)
    axis = (np.arange(n) - (n - 1) / 2) * scale
    r2 = (axis[None] - 0.4) ** 2 + (axis[:, None] + 0.2) ** 2
    total = galaxy.sigma**2 + BLUR**2
    each = np.exp(-r2[..., None] / (2 * total)) / (2 * np.pi * total)
    assert seen.dtype == dtype
    expected = scale**2 * each @ galaxy.flux
    np.testing.assert_allclose(seen, expected, atol=2e-4 * expected.max())


def test_a_profile_and_its_stamp_look_alike_behind_a_lens(x64):
    axis = (np.arange(201) - 100) * 0.012
    x, y = jnp.meshgrid(axis, axis)
    image = light.brightness(SOURCE._replace(x=0.0, y=0.0), x, y) * 0.012**2
    kernel = gaussian_psf(25, 0.168, float)
    survey = HSC._replace(image_size=24, bands=("G", "R"))
    pixels = render.pixels_of(survey, kernel)
    stamp = light.Stamp(image, np.ones(2), 0.012)
    by_stamp = mock.arcs(LENS, SOURCE.x, SOURCE.y, stamp, kernel, survey)
    seen = lensed(SOURCE, LENS, kernel, pixels)
    np.testing.assert_allclose(by_stamp, seen, atol=3e-3 * seen.max())
    centred = SOURCE._replace(x=0.0, y=0.0)
    again = mock.arcs(LENS, SOURCE.x, SOURCE.y, centred, kernel, survey)
    np.testing.assert_allclose(again, seen, atol=1e-12)


def test_no_light_is_missed_beyond_the_frame_and_none_comes_round(x64):
    """A bright image just outside: the middle of a much larger frame is the same."""
    kernel = psf.moffat(0.8, 2.5, 0.0, 0.0, 41, 0.168)[..., None]
    galaxy = SOURCE._replace(flux=np.array([100.0]), x=2.6, y=0.4)
    small, large = HSC._replace(image_size=24), HSC._replace(image_size=84)
    none = Lens(sie.SIE(0.0, 0.0, 0.0, 0.0, 0.0), Shear(0.0, 0.0))
    seen, wide = (
        lensed(galaxy, none, kernel, render.pixels_of(s, kernel))
        for s in (small, large)
    )
    np.testing.assert_allclose(seen, wide[30:-30, 30:-30], atol=1e-6 * wide.max())
    assert seen.max() > 1e-3 * wide.max()
    # a narrow margin misses some of it, but lets nothing in at the other side
    narrow = lensed(galaxy, none, kernel, render.pixels_of(small, kernel, margin=8))
    assert (np.abs(narrow - seen) <= seen + 1e-9).all()
    np.testing.assert_allclose(narrow[:, :4], 0, atol=1e-3 * seen.max())


def test_a_finer_psf_has_a_margin_in_the_surveys_pixels():
    kernel = jnp.ones((43, 43, 1)) / 43**2
    pixels = render.pixels_of(EUCLID, kernel, supersampling=4)
    assert (pixels.margin, pixels.supersampling, pixels.psf_oversampling) == (7, 6, 3)


def test_derivatives_through_a_whole_image_are_finite_differences(x64):
    pixels = Pixels(12, 0.2, margin=4, supersampling=3)
    kernel = gaussian_psf(9, 0.2, float)
    scene, shape = jax.flatten_util.ravel_pytree(of((LENS, SOURCE), float))
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(12, 12, 2)))

    @jax.jit
    @jax.vmap
    def total_and_slope(v):
        def total(v):
            lens, source = shape(v)
            return (weights * render.lensed(source, lens, kernel, pixels)).sum()

        return jax.value_and_grad(total)(v)

    h = 1e-6
    steps = h * np.eye(len(scene))
    (above, _), (below, _) = (total_and_slope(scene[None] + s) for s in (steps, -steps))
    _, slope = total_and_slope(scene[None])
    differences = (np.asarray(above) - np.asarray(below)) / (2 * h)
    np.testing.assert_allclose(slope[0], differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sersic", "stamp"])
def test_batches_of_cotangents_are_a_loop_of_them(dtype, kind):
    pixels = Pixels(24, 0.168, margin=8)
    kernel = gaussian_psf(17, 0.168, dtype)
    source = SOURCE
    if kind == "stamp":
        image = np.random.default_rng(5).random((31, 31, 2))
        source = light.Stamp(image, np.array([2.0, 0.5]), 0.03)
    scene = of((LENS, source), dtype)
    many = jnp.asarray(np.random.default_rng(1).normal(size=(3, 24, 24, 2)), dtype)

    def back(w):
        def image(scene):
            lens, source = scene
            return render.lensed(source, lens, kernel, pixels)

        return jax.vjp(image, scene)[1](w)

    one, together = jax.jit(back), jax.jit(jax.vmap(back))(many)
    alone = [one(w) for w in many]
    rtol = 1e-10 if dtype == jnp.float64 else 1e-4
    for leaves in zip(*map(jax.tree.leaves, (together, *alone)), strict=True):
        batch, *singles = map(np.asarray, leaves)
        size = max(abs(s).max() for s in singles)
        np.testing.assert_allclose(batch, np.stack(singles), rtol=0, atol=rtol * size)
