"""A row of a sample and its image: what turning a lens galaxy does and does not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import catalogue, mock, sie
from lensjax.catalogue import Catalogue, Lenses, Sources
from lensjax.lens import Lens
from lensjax.mocks import segmentation, system
from lensjax.mocks.system import Rendering, System
from lensjax.shear import Shear
from lensjax.survey import HSC

SURVEY = HSC._replace(image_size=32)
SCALE = 0.06  # of the source stamps [arcsec]
RENDERING = Rendering(SURVEY, SCALE)

measure = jax.jit(lambda image, psf: catalogue.measure(image, psf, SURVEY))
turned = jax.jit(system.turned)
render = jax.jit(lambda row, galaxies: system.render(row, galaxies, RENDERING))
brightness = jax.jit(
    lambda row, cat: system.brightness(
        row, cat.lenses, cat.sources, cat.psfs[0], RENDERING
    )
)


def gaussian(n, xx, xy, yy, x=0.0, y=0.0):
    axis = np.arange(n) - (n - 1) / 2
    dx, dy = axis - x, axis[:, None] - y
    det = xx * yy - xy**2
    chi2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
    return np.exp(-chi2 / 2) / (2 * np.pi * np.sqrt(det))


@pytest.fixture(scope="module")
def galaxies():
    """One tilted lens galaxy off its cutout's middle, one round source."""
    colour = np.array([1.0, 2.0, 3.0, 3.5])
    image = 30 * gaussian(32, 9.0, 2.5, 5.0, 1.3, -0.8)[..., None] * colour
    psf = np.stack([gaussian(21, 3.0, 0.4, 2.2), *[gaussian(21, 2, -0.3, 2.5)] * 3], -1)
    image, psf = (jnp.asarray(a, jnp.float32) for a in (image, psf))
    lenses = Lenses(
        image=image[None],
        psf=jnp.zeros(1, jnp.int32),
        z=jnp.full(1, 0.5),
        vdisp=jnp.full(1, 250.0),
        weight=jnp.ones(1),
        **{k: v[None] for k, v in measure(image, psf).items()},
    )
    stamp = gaussian(25, 9.0, 0.0, 9.0)[None, ..., None]
    sources = Sources(
        jnp.asarray(stamp, jnp.float32),
        jnp.array([[5.0, 4.0, 3.0, 2.0]]),
        jnp.full(1, 2.0),
        jnp.full((1, 4), 25.0),
    )
    return Catalogue(lenses, sources, psf[None])


def a_row(rotation, lens, beta):
    zero = jnp.zeros(())
    return System(
        number=jnp.array(0),
        lens_index=jnp.array(0),
        source_index=jnp.array(0),
        psf_index=jnp.array(0),
        rotation=jnp.array(rotation),
        shift_x=jnp.array(0),
        shift_y=jnp.array(0),
        sie=jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), lens),
        shear=Shear(zero, zero),
        light_x=zero,
        light_y=zero,
        light_ex=zero,
        light_ey=zero,
        beta_x=jnp.asarray(beta[0], jnp.float32),
        beta_y=jnp.asarray(beta[1], jnp.float32),
        z_lens=zero + 0.5,
        z_source=zero + 2.0,
        vdisp=zero + 250.0,
        z_drawn=jnp.array(False),
        vdisp_drawn=jnp.array(False),
        n_images=jnp.array(2),
        arc_peak=zero,
        log_flux_ratio=zero,
    )


def quarter_turns(point, k):
    """A point turned from +x towards +y, by complex numbers."""
    z = complex(*point) * 1j**k
    return z.real, z.imag


LENS = (0.8, 0.7, 0.5, 0.15, -0.1)  # theta_E, q, phi, x, y
BETA = (0.3, 0.05)


def turned_row(k):
    theta_E, q, phi, *centre = LENS
    lens = sie.from_axis_ratio(
        theta_E, q, phi + k * np.pi / 2, *quarter_turns(centre, k)
    )
    return a_row(k, lens, quarter_turns(BETA, k))


def test_one_turn_takes_the_right_edge_to_the_top():
    image = np.zeros((5, 5, 1), np.float32)
    image[2, 4] = 1  # row y = 0, column x = +2
    for k, (row, column) in enumerate([(2, 4), (4, 2), (2, 0), (0, 2)]):
        found = np.asarray(turned(image, jnp.array(k)))
        assert found[row, column, 0] == 1 and found.sum() == 1


@pytest.mark.parametrize("k", range(4))
def test_light_of_a_turned_galaxy_is_what_its_turned_image_shows(galaxies, k):
    image, _, psf = system.stamps(turned_row(k), galaxies, RENDERING)
    seen = measure(image, psf)
    listed = system.light_of(galaxies.lenses, jnp.array(0), jnp.array(k))
    for name, value in zip(("x", "y", "ex", "ey"), listed, strict=True):
        np.testing.assert_allclose(seen[name], value, atol=2e-5, err_msg=name)
    # and neither brightness nor the ellipse's axis ratio turns with it
    assert np.hypot(seen["ex"], seen["ey"]) > 0.2
    np.testing.assert_allclose(seen["mag"], galaxies.lenses.mag[0], atol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_turning_galaxy_mass_and_source_together_turns_the_mock(galaxies, k):
    upright = render(turned_row(0), galaxies)
    expected = turned(upright, jnp.array(k))
    np.testing.assert_allclose(render(turned_row(k), galaxies), expected, atol=2e-5)


def test_arcs_are_as_bright_as_the_row_says(galaxies):
    row = turned_row(1)
    image, _, _ = system.stamps(row, galaxies, RENDERING)
    arcs = np.asarray(render(row, galaxies) - image)[..., 2]
    peak, log_ratio = brightness(row, galaxies)
    background = galaxies.lenses.background[0, 2]
    np.testing.assert_allclose(peak, arcs.max() / background, rtol=1e-3)
    expected = np.log10(arcs.sum() / image[..., 2].sum())
    np.testing.assert_allclose(log_ratio, expected, atol=1e-3)


def test_a_band_that_has_its_own_stamp_is_the_one_looked_at(galaxies):
    one = galaxies.sources
    four = one._replace(
        image=one.image * one.flux[:, None, None], flux=jnp.ones((1, 4))
    )
    alike = brightness(turned_row(0), galaxies)
    np.testing.assert_allclose(
        brightness(turned_row(0), galaxies._replace(sources=four)), alike, rtol=1e-5
    )


@pytest.mark.parametrize(("x", "y"), [(3, -1), (-4, 4), (0, 0)])
def test_a_shifted_lens_keeps_its_pixels_and_moves_by_whole_ones(galaxies, x, y):
    """A cutout of 40 pixels for a survey of 32 can be shifted by up to four."""
    image = np.random.default_rng(0).normal(size=(40, 40, 4)).astype(np.float32)
    moved = np.asarray(system.shifted(image, jnp.array(x), jnp.array(y), 32))
    whole = np.roll(image, (y, x), (0, 1))
    np.testing.assert_array_equal(moved, whole[4:36, 4:36])
    same = np.asarray(system.shifted(image[4:36, 4:36], jnp.array(x), jnp.array(y), 32))
    np.testing.assert_array_equal(same, image[4:36, 4:36])


def test_the_noise_of_arcs_is_poissons_and_a_systems_own(galaxies):
    """Where arcs are bright its variance is counts over gain; elsewhere nothing."""
    noisy = RENDERING._replace(arc_noise=True)
    layers = jax.jit(system.layers, static_argnums=2)
    bright = galaxies._replace(
        sources=galaxies.sources._replace(flux=galaxies.sources.flux * 1e4)
    )
    image, arcs = layers(turned_row(0), bright, RENDERING)
    _, seen = layers(turned_row(0), bright, noisy)
    _, again = layers(turned_row(0), bright, noisy)
    other = turned_row(0)._replace(number=jnp.array(1))
    _, others = layers(other, bright, noisy)
    np.testing.assert_array_equal(seen, again)
    assert np.abs(np.asarray(seen - others)).max() > 0.01
    arcs, noise = np.asarray(arcs), np.asarray(seen - arcs)
    lit = arcs > 1.0
    assert lit.sum() > 500
    score = noise[lit] / np.sqrt(arcs[lit] / 3000)
    assert abs(score.mean()) < 4 / np.sqrt(lit.sum())
    assert abs(score.std() - 1) < 4 / np.sqrt(2 * lit.sum())
    assert (noise[arcs <= 0] == 0).all()


def test_without_arcs_the_lens_is_left_and_is_judged_as_with_them(galaxies):
    dark = RENDERING._replace(lens_only=True)
    bare = jax.jit(lambda row, cat: system.render(row, cat, dark))
    np.testing.assert_array_equal(
        bare(turned_row(0), galaxies), galaxies.lenses.image[0]
    )
    args = turned_row(0), galaxies.lenses, galaxies.sources, galaxies.psfs[0]
    look = jax.jit(system.brightness, static_argnums=4)
    assert look(*args, dark)[0] == look(*args, RENDERING)[0] > 1


def test_the_noise_of_arcs_does_not_ask_where_a_galaxy_is_listed(galaxies):
    noisy = RENDERING._replace(arc_noise=True)
    layers = jax.jit(system.layers, static_argnums=2)
    _, one = layers(turned_row(0), galaxies, noisy)
    lenses = jax.tree.map(lambda a: jnp.concatenate([a, a]), galaxies.lenses)
    moved = turned_row(0)._replace(lens_index=jnp.array(1))
    _, other = layers(moved, galaxies._replace(lenses=lenses), noisy)
    np.testing.assert_array_equal(one, other)


def test_shear_bends_the_arcs_as_lens_does(galaxies):
    row = turned_row(0)
    g = Shear(jnp.float32(0.1), jnp.float32(-0.05))
    expected = mock.arcs(
        Lens(row.sie, g),
        row.beta_x,
        row.beta_y,
        mock.Source(galaxies.sources.image[0], galaxies.sources.flux[0], SCALE),
        galaxies.psfs[0],
        SURVEY,
    )
    found = render(row._replace(shear=g), galaxies) - galaxies.lenses.image[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    unsheared = render(row, galaxies) - galaxies.lenses.image[0]
    assert np.abs(np.asarray(found - unsheared)).max() > 0.1


def test_a_galaxy_without_arcs_is_its_lens_alone_and_its_map_says_so(galaxies):
    row = a_row(1, sie.SIE(1.0, 0.1, 0.0, 0.0, 0.0), (0.1, 0.05))
    shape = galaxies.lenses.image.shape[:3]
    maps = (
        jnp.zeros(shape, jnp.uint8)
        .at[0, 5, 20]
        .set(segmentation.LENS | segmentation.NEIGHBOUR)
    )
    known = galaxies._replace(lenses=galaxies.lenses._replace(parts=maps))

    @jax.jit
    def seen(row):
        image, arcs = system.layers(row, known, RENDERING)
        return image, arcs, system.shown(row, arcs, known, RENDERING)

    image, arcs, shown = seen(row)
    assert arcs.max() > 0
    assert (shown & segmentation.ARC).any()
    bright = (np.asarray(arcs) / np.array(SURVEY.sky_sigma)).max(
        -1
    ) > segmentation.VISIBLE
    assert np.asarray(shown & segmentation.ARC)[bright].all()
    # the map turns with the galaxy: a quarter counter-clockwise, rows upwards
    turned = np.rot90(np.asarray(maps[0]), -1)
    np.testing.assert_array_equal(np.asarray(shown) & (255 - segmentation.ARC), turned)
    bare, none, left = seen(row._replace(n_images=jnp.array(0)))
    np.testing.assert_array_equal(bare, image)
    assert not none.any()
    np.testing.assert_array_equal(left, turned)


def test_identifiers_sort_as_their_numbers_do():
    names = [system.identifier(n) for n in (0, 7, 123, 2**31 - 1)]
    assert names == sorted(names) and len(set(map(len, names))) == 1


def test_the_arcs_are_those_of_mock(galaxies):
    row = turned_row(0)
    expected = mock.arcs(
        system.mass_of(row),
        row.beta_x,
        row.beta_y,
        mock.Source(galaxies.sources.image[0], galaxies.sources.flux[0], SCALE),
        galaxies.psfs[0],
        SURVEY,
    )
    found = render(row, galaxies) - galaxies.lenses.image[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)
