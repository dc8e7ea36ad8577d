"""Rendered arcs: closed forms, a finer rendering, lenstronomy, finite differences."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel

from lensjax import cosmology, interop, light, mock, psf, sie
from lensjax.catalogue import cutouts
from lensjax.lens import Lens
from lensjax.mock import Source
from lensjax.mocks import population
from lensjax.shear import Shear
from lensjax.survey import HSC

DATA = Path(os.environ.get("LENSJAX_DATA", Path(__file__).parents[2] / "shared/data"))
SMALL = HSC._replace(image_size=24)
NO_LENS = Lens(sie.SIE(0.0, 0.0, 0.0, 0.0, 0.0), Shear(0.0, 0.0))
SKY = np.array(HSC.sky_sigma)

arcs = jax.jit(mock.arcs, static_argnums=(5, 6))
render = jax.jit(mock.render, static_argnums=(6, 7))
draw_source = jax.jit(lambda key: population.source(key, cosmology.PAPER, HSC))
draw_psf = jax.jit(lambda key: psf.seeing(key, HSC))


def numbers(tree, dtype=jnp.float32):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def lens_of(theta_E, q, phi, x=0.0, y=0.0, g1=0.0, g2=0.0):
    return Lens(sie.from_axis_ratio(theta_E, q, phi, x, y), Shear(g1, g2))


def gaussian_source(sigma, flux, size=81, scale=0.03):
    axis = (np.arange(size) - size // 2) * scale
    image = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    return Source(image[..., None] / image.sum(), np.asarray(flux, float), scale)


def gaussian_psf(sigmas, size=33):
    axis = np.arange(size) - size // 2
    r2 = (axis[:, None] ** 2 + axis**2)[..., None]
    return np.exp(-r2 / (2 * np.square(sigmas))) / (2 * np.pi * np.square(sigmas))


def test_without_mass_a_source_is_seen_where_it_is_blurred_by_the_psf(dtype):
    flux, sigma, blur = np.array([3.0, 7.0]), 0.25, np.array([1.6, 2.0]) * 0.168
    source = numbers(gaussian_source(sigma, flux), dtype)
    kernel = numbers(gaussian_psf(blur / 0.168), dtype)
    at = 0.31, -0.17
    seen = arcs(numbers(NO_LENS, dtype), *numbers(at, dtype), source, kernel, SMALL, 3)
    axis = (np.arange(24) - 11.5) * 0.168
    r2 = ((axis[:, None] - at[1]) ** 2 + (axis - at[0]) ** 2)[..., None]
    # bilinear interpolation adds the variance of a triangle, scale^2 / 6
    total = sigma**2 + 0.03**2 / 6 + blur**2
    expected = flux * 0.168**2 * np.exp(-r2 / (2 * total)) / (2 * np.pi * total)
    assert seen.dtype == dtype
    np.testing.assert_allclose(seen, expected, atol=1e-4 * expected.max())


def test_a_small_source_is_magnified_by_the_sum_of_its_images(x64):
    # a round lens magnifies a point by 2 theta_E / beta; a symmetric source of
    # variance s^2 by <1 / beta> = (1 + s^2 / 2 beta^2) / beta, one term further
    theta_E, beta, sigma = 1.0, 0.4, 0.06
    source = numbers(gaussian_source(sigma, [1.0]), float)
    lens = numbers(lens_of(theta_E, 1.0, 0.0, 0.1, -0.1), float)
    kernel = jnp.asarray(gaussian_psf([1.6]))
    seen = arcs(lens, 0.1 + beta * 0.6, -0.1 + beta * 0.8, source, kernel, HSC, 3)
    variance = sigma**2 + 0.03**2 / 6
    expected = 2 * theta_E / beta * (1 + variance / (2 * beta**2))
    np.testing.assert_allclose(seen.sum(), expected, rtol=1e-3)


def real_psf():
    path = min((DATA / "hsc" / "psfs").glob("*.fits"), default=None)
    if path is None:
        pytest.skip(f"no HSC PSFs in {DATA}: set LENSJAX_DATA")
    planes = cutouts.read(path, HSC.bands).bands
    return np.stack([psf.centre(planes[band]) for band in HSC.bands], -1)


def typical_arcs(kind, n=4):
    """Lens, position and source (i = 24.5) of arcs as samples hold them."""
    rng = np.random.default_rng(7)
    x, y = mock.ray_grid(96, 0.03, jnp.float32)
    for k in range(n):
        if kind == "population":
            image, _, mag = draw_source(jax.random.key(k))
            image *= 10 ** (-0.4 * (24.5 - mag[2]))
        else:
            q, phi = rng.uniform(0.4, 1), rng.uniform(0, np.pi)
            image = 0.03**2 * light.sersic(x, y, 0.2, 1.0, q, phi)[..., None]
            image *= 10 ** (-0.4 * (24.5 - HSC.zero_point))
        theta_E, q, phi = (
            rng.uniform(0.7, 1.6),
            rng.uniform(0.5, 0.95),
            rng.uniform(0, 3),
        )
        beta = rng.uniform(0.05, 0.35) * theta_E * np.exp(1j * rng.uniform(0, 6.3))
        flux = np.ones(4) if kind == "population" else np.array([0.8, 0.95, 1.0, 1.1])
        lens = lens_of(theta_E, q, phi, 0.02, -0.03)
        yield lens, (0.02 + beta.real, beta.imag - 0.03), Source(image, flux, 0.03)


@pytest.mark.parametrize(
    ("kind", "seeing"),
    [("population", "moffat"), ("sersic", "moffat"), ("sersic", "real")],
)
def test_typical_arcs_agree_with_a_twelvefold_supersampled_rendering(kind, seeing):
    kernel = real_psf() if seeing == "real" else draw_psf(jax.random.key(1))
    for case in typical_arcs(kind):
        case = numbers(case)
        lens, beta, source = case
        seen, fine = (
            np.asarray(arcs(lens, *beta, source, numbers(kernel), HSC, s), float)
            for s in (mock.SUPERSAMPLING, 12)
        )
        assert fine.max((0, 1))[2] > 2 * SKY[2]
        assert (np.sqrt(((seen - fine) ** 2).mean((0, 1))) < 0.01 * SKY).all()
        np.testing.assert_allclose(seen.sum((0, 1)), fine.sum((0, 1)), rtol=1e-3)


def optics(factor, pixels=43):
    """A Moffat before the pixels, finely sampled, and the effective PSF it makes.

    lenstronomy blurs with the former and then averages over pixels; a kernel of ours
    has the pixel in it: the former averaged over pixels is the same, exactly.
    """
    half = pixels * factor // 2
    axis = np.arange(-half, half + 1) / factor
    r2 = axis[:, None] ** 2 + axis**2
    fine = (1 + r2 / (3.6**2 / 4 / (2 ** (1 / 3) - 1))) ** -3.0
    fine /= fine.sum()
    effective = fine.reshape(pixels, factor, pixels, factor).sum((1, 3))
    return fine, effective


def by_lenstronomy(lens, light, kwargs_light, fine_kernel, factor, n, scale):
    """lenstronomy's image (n, n) of light behind a lens, with so fine a kernel."""
    models, kwargs_lens = interop.to_lenstronomy(lens)
    corner = -(n - 1) / 2 * scale
    model = ImageModel(
        PixelGrid(
            nx=n,
            ny=n,
            ra_at_xy_0=corner,
            dec_at_xy_0=corner,
            transform_pix2angle=np.eye(2) * scale,
        ),
        PSF(
            "PIXEL",
            kernel_point_source=fine_kernel,
            point_source_supersampling_factor=factor,
        ),
        lens_model_class=LensModel(models),
        source_model_class=light,
        kwargs_numerics={
            "supersampling_factor": factor,
            "supersampling_convolution": True,
            "supersampling_kernel_size": None,  # all of it
        },
    )
    return model.image(kwargs_lens, [kwargs_light])


def lenstronomy_arcs(lens, beta, source, fine_kernel, factor, channel):
    image = np.asarray(source.image[..., channel], float) / source.pixel_scale**2
    kwargs_source = {
        "image": image * float(source.flux[2]),
        "amp": 1.0,
        "center_x": beta[0],
        "center_y": beta[1],
        "phi_G": 0.0,
        "scale": source.pixel_scale,
    }
    size = HSC.image_size, HSC.pixel_scale
    light = LightModel(["INTERPOL"])
    return by_lenstronomy(lens, light, kwargs_source, fine_kernel, factor, *size)


@pytest.mark.filterwarnings("ignore:`axes` should not be:DeprecationWarning")
@pytest.mark.parametrize("kind", ["population", "sersic"])
def test_typical_arcs_agree_with_lenstronomy(kind):
    factor = 9
    fine, effective = optics(factor)
    kernel = numbers(np.repeat(effective[..., None], 4, -1))
    for lens, beta, source in typical_arcs(kind, 2):
        channel = min(2, source.image.shape[-1] - 1)
        theirs = lenstronomy_arcs(lens, beta, source, fine, factor, channel)
        ours = arcs(numbers(lens), *numbers(beta), numbers(source), kernel, HSC, 3)
        ours = np.asarray(ours[..., 2], float)
        assert np.sqrt(((ours - theirs) ** 2).mean()) < 0.01 * SKY[2]
        np.testing.assert_allclose(ours.sum(), theirs.sum(), rtol=1.5e-3)


def a_scene(rng, dtype):
    """Everything `render` takes, small: one lens in shear, an uneven source."""
    n = SMALL.image_size
    image = rng.random((n, n, 2))
    stamp = rng.random((9, 9, 2)) * np.hanning(11)[1:-1, None, None]
    lens = lens_of(0.9, 0.7, 0.4, 0.05, -0.08, 0.03, -0.02)
    source = Source(stamp, np.array([1.3, 0.7]), 0.11)
    return numbers(
        (image, lens, 0.12, 0.07, source, gaussian_psf([1.6, 1.9], 9)), dtype
    )


def test_every_gradient_agrees_with_finite_differences(x64, rng):
    scene = a_scene(rng, float)
    weight = jnp.asarray(rng.normal(size=(24, 24, 2)))

    @jax.jit
    def total(scene):
        return (weight * mock.render(*scene, SMALL)).sum()

    gradient = jax.jit(jax.grad(total))(scene)
    leaves, tree = jax.tree.flatten(scene)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(scene)]
    # lens image, SIE (5), shear (2), beta (2), source image, flux and scale, PSF
    assert len(leaves) == 14
    for k, path in enumerate(paths):
        way = jnp.asarray(rng.normal(size=leaves[k].shape))

        def moved(step, k=k, way=way):
            changed = [*leaves[:k], leaves[k] + step * way, *leaves[k + 1 :]]
            return float(total(tree.unflatten(changed)))

        # bilinear light has kinks: a short step crosses few of them
        step = 1e-7
        slope = (moved(step) - moved(-step)) / (2 * step)
        found = float((jax.tree.leaves(gradient)[k] * way).sum())
        np.testing.assert_allclose(found, slope, rtol=2e-4, atol=1e-6, err_msg=path)


def test_single_precision_is_good_to_a_ten_thousandth(rng):
    with jax.enable_x64(True):
        scene = a_scene(rng, jnp.float64)
        exact = np.asarray(render(*scene, SMALL, 3))
    rough = render(*numbers(scene, jnp.float32), SMALL, 3)
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=1e-4 * np.abs(exact).max())


def test_many_at_once_are_as_one_by_one_and_compiled_as_eager(rng):
    scenes = [a_scene(rng, jnp.float32) for _ in range(3)]
    together = jax.jit(jax.vmap(lambda s: mock.render(*s, SMALL)))(
        jax.tree.map(lambda *a: jnp.stack(a), *scenes)
    )
    for scene, seen in zip(scenes, together, strict=True):
        one = render(*scene, SMALL, mock.SUPERSAMPLING)
        np.testing.assert_allclose(seen, one, atol=2e-5)
    np.testing.assert_allclose(mock.render(*scene, SMALL), one, atol=2e-5)


def test_the_lens_image_is_untouched_where_no_arc_is(rng):
    image, lens, _, _, source, _ = a_scene(rng, jnp.float32)
    kernel = numbers(gaussian_psf([1.6, 1.5], 17))
    far = numbers((50.0, 50.0))
    np.testing.assert_array_equal(
        render(image, lens, *far, source, kernel, SMALL, 3), image
    )
    # one side alone: a small source at the right
    light_at_right = render(
        image, numbers(NO_LENS), *numbers((1.2, 0.0)), source, kernel, SMALL, 3
    )
    np.testing.assert_allclose(light_at_right[:, :8], image[:, :8], atol=1e-6)
    assert (light_at_right[12, 19] > image[12, 19] + 0.1).all()


def test_light_outside_the_cutout_is_scattered_in_by_the_psf_not_wrapped(rng):
    source = numbers(gaussian_source(0.1, [1.0]))
    kernel = numbers(gaussian_psf([2.0], 17))
    edge = SMALL.image_size / 2 * SMALL.pixel_scale
    seen = arcs(numbers(NO_LENS), *numbers((edge + 0.2, 0.0)), source, kernel, SMALL, 3)
    assert seen[12, -1, 0] > 0.01
    np.testing.assert_allclose(seen[:, :8], 0, atol=1e-6)


def test_surface_brightness_is_bilinear_and_zero_beyond_the_stamp(dtype, rng):
    stamp = rng.random((4, 4, 1))
    source = numbers(Source(stamp, np.ones(1), 0.5), dtype)

    def at(x, y):
        point = jnp.asarray([x, y], dtype)
        return mock.surface_brightness(source, point[0], point[1])[0] * 0.25

    near = 1e-6
    np.testing.assert_allclose(at(-0.75, 0.25), stamp[2, 0, 0], rtol=near)
    np.testing.assert_allclose(at(0.5, 0.25), stamp[2, 2:, 0].mean(), rtol=near)
    np.testing.assert_allclose(at(0.0, 0.0), stamp[1:3, 1:3, 0].mean(), rtol=near)
    for x, y in [(1.3, 0), (0, -1.3), (-9, 9), (1e6, 0), (-1e6, 1e6)]:
        assert at(x, y) == 0
