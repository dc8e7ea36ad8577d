"""Lens galaxies as real cutouts show them, and what their pixels show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import cosmology, photometry, psf
from lensjax.mock import ray_grid
from lensjax.mocks import population, segmentation, varied
from lensjax.survey import HSC

N = 40
SURVEY = HSC._replace(image_size=N)


@pytest.fixture(scope="module")
def galaxy():
    some = jax.jit(population.ellipticals, static_argnums=1)(
        jax.random.key(1), 4, cosmology.PAPER
    )
    return jax.tree.map(lambda a: a[1], some)


@pytest.fixture(scope="module")
def grid():
    n = (N + 16) * population.FINE_PIXELS
    return ray_grid(n, SURVEY.pixel_scale / population.FINE_PIXELS, float)


def total(scene):
    scale = SURVEY.pixel_scale / population.FINE_PIXELS
    return np.asarray(scene.sum((0, 1))) * scale**2


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_a_galaxy_add_up_to_its_light(galaxy, grid, seed):
    """Its total in i is the magnitude's, whatever it is made of, arms included."""
    small = galaxy._replace(radius=jnp.asarray(0.4), sersic=jnp.asarray(1.5))
    scene = jax.jit(varied.body, static_argnums=4)(
        jax.random.key(seed), small, *grid, SURVEY
    )
    wanted = 10 ** (-0.4 * (float(galaxy.mag[2]) - SURVEY.zero_point))
    np.testing.assert_allclose(total(scene)[2], wanted, rtol=0.12)


def test_companions_come_as_often_as_they_should_and_not_on_the_lens(galaxy, grid):
    x, y = grid
    draw = jax.jit(lambda key: varied.companions(key, galaxy, x, y, SURVEY).sum(-1))
    near, without = 0, 0
    for k in range(60):
        scene = np.asarray(draw(jax.random.key(k)))
        without += scene.max() == 0
        if scene.max() > 0:
            row, column = np.unravel_index(scene.argmax(), scene.shape)
            near += np.hypot(x[row, column], y[row, column]) < varied.NEAREST - 0.1
    assert near == 0
    # none by Poisson's law in exp(-1.3) = 27 %: 16 of 60, sigma 3.4
    assert 5 < without < 28


def test_a_star_is_a_point(grid):
    x, y = grid
    for k in range(200):
        scene = varied.stars(jax.random.key(k), x, y, SURVEY)
        if scene.max() > 0:
            break
    flux = total(scene)
    assert (flux > 0).all()
    row, column = np.unravel_index(np.asarray(scene[..., 2]).argmax(), x.shape)
    close = np.hypot(x - x[row, column], y - y[row, column]) < SURVEY.pixel_scale
    assert (
        np.asarray(scene[..., 2])[close].sum() > 0.98 * np.asarray(scene[..., 2]).sum()
    )


def test_maps_say_where_lens_and_neighbours_are(galaxy):
    kernel = psf.seeing(jax.random.key(2), SURVEY)
    cutout = jax.jit(varied.cutout, static_argnums=(3, 4))
    for k in range(8):
        image, maps = cutout(jax.random.key(k), galaxy, kernel, SURVEY, 0)
        image, maps = np.asarray(image), np.asarray(maps)
        assert image.shape == (N, N, 4)
        assert maps.shape == (N, N)
        assert maps.dtype == np.uint8
        assert maps[N // 2, N // 2] & segmentation.LENS
        assert not (maps & segmentation.ARC).any()
        dark = maps == 0
        if dark.sum() > 50:
            snr = image[dark] / np.array(SURVEY.sky_sigma)
            assert abs(np.median(snr)) < 1.5


def test_a_part_is_where_its_light_is_twice_the_noise():
    light = np.zeros((6, 6, 4), np.float32)
    sky = np.array(HSC.sky_sigma)
    light[1, 1] = 1.1 * sky  # 2.2 sigma, all bands together
    light[2, 2] = 0.9 * sky  # 1.8
    light[3, 3] = 20 * sky
    found = np.asarray(segmentation.where(jnp.asarray(light), segmentation.ARC, HSC))
    assert found[1, 1] == found[3, 3] == segmentation.ARC
    assert found.sum() == 2 * segmentation.ARC
    # beside a lens that is a hundred times as bright it does not count
    lens = jnp.asarray(100 * light)
    with_lens = segmentation.where(
        jnp.asarray(light), segmentation.NEIGHBOUR, HSC, over=lens
    )
    assert not np.asarray(with_lens).any()


def test_planes_are_the_bits_of_a_map():
    maps = jnp.arange(8, dtype=jnp.uint8).reshape(2, 4)
    planes = np.asarray(segmentation.planes(maps))
    assert planes.shape == (2, 4, 3)
    np.testing.assert_array_equal(planes[1, 2], [0, 1, 1])  # 6: arc and neighbour
    assert planes.sum() == 12


def test_varied_sources_are_larger_redder_and_knottier():
    draw = jax.jit(
        lambda key, looks: population.source(key, cosmology.PAPER, HSC, looks),
        static_argnums=1,
    )

    def look(looks):
        radius, colour = [], []
        for k in range(40):
            stamp, _, mag = draw(jax.random.key(k), looks)
            light = photometry.moments(stamp[..., 2], steps=20)
            radius.append(float(light.xx + light.yy) ** 0.5)
            colour.append(float(mag[0] - mag[1]))
        return np.median(radius), np.mean(colour)

    smooth = look(population.SMOOTH_LOOKS)
    other = look(varied.VARIED.looks)
    assert other[0] > 1.2 * smooth[0]
    assert other[1] > smooth[1] + 0.1
