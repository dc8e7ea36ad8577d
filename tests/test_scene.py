"""Broken images among good ones: each kind is told, and none of the good ones."""

import numpy as np
import pytest
from test_cutouts import galaxy

from benchmarks import judge
from lensjax.catalogue import _scene, quality
from lensjax.survey import HSC

TOLD = {  # kinds of benchmarks/judge.py, and what they are told by
    "one band times 15.85": {"wrong_units", "saturated"},
    "one band in nJy (times 57.5)": {"wrong_units", "saturated"},
    "one band times 1e-30": {"wrong_units"},
    "one band times 0.1": {"wrong_units"},
    "a pixel of 1e30": {"wild_pixel", "saturated"},
    "a pixel of -1e30": {"wild_pixel"},
    "a pixel of -999": {"wild_pixel"},
    "3 x 3 of -999 at the centre": {"wild_pixel", "placeholder"},
    "30 pixels of -999": {"wild_pixel", "placeholder", "wrong_units", "negative_sky"},
    "rolled band, 3 to 5 pixels": {"misaligned"},
    "off centre by 3 to 5 pixels": {"decentred"},
    "off centre by 8 to 20 pixels": {"off_centre"},
    "a star alone": {"star"},
    "sky alone": {"no_galaxy", "off_centre", "wrong_units"},
    "a ramp": {"no_galaxy", "off_centre", "wrong_units", "negative_sky", "high_sky"},
    "negative image": {"wild_pixel"},
}


@pytest.mark.parametrize("kind", TOLD)
def test_a_broken_image_is_told_by_its_kind(kind):
    for seed in range(4):
        good = galaxy(seed=seed)
        assert quality.check(good, HSC) == {}
        rng = np.random.default_rng(seed)
        broken = judge.BROKEN[kind](good, HSC, rng).astype(np.float32)
        found = quality.check(broken, HSC)
        assert found and set(found) <= TOLD[kind], (seed, found)
        if kind != "off centre by 3 to 5 pixels":
            assert quality.is_fatal(found)


def test_a_place_on_the_light_without_data_is_told_and_one_on_the_sky_is_not():
    image = galaxy()
    image[2:60:9, 3, 1] = 0.0  # seven pixels of sky
    assert quality.check(image, HSC) == {}
    image[30:34, 30, 1] = 0.0
    assert "4 pixels are 0" in quality.check(image, HSC)["placeholder"]


def test_whole_numbers_repeat_by_nature():
    image = np.round(galaxy() / 0.02).astype(np.float32) * np.float32(0.02)
    assert quality.check(image, HSC) == {}


@pytest.mark.parametrize(("r", "told"), [(0.2, set()), (0.5, {"decentred"})])
@pytest.mark.parametrize("angle", [0.3, 2.0, 4.4])
def test_a_galaxy_off_the_centre_is_told_from_03_arcsec_on(r, told, angle):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 31.5
    x, y = x - r * np.cos(angle) / 0.168, y - r * np.sin(angle) / 0.168
    light = 5 * np.exp(-np.hypot(x, y) / 4)[..., None] * [0.2, 0.5, 0.8, 1.0]
    image = light + rng.normal(size=light.shape) * HSC.sky_sigma
    assert set(quality.check(image.astype(np.float32), HSC)) == told


def test_a_seen_arc_is_no_shifted_band():
    """A blue arc that outshines the galaxy in g alone."""
    image = galaxy(seed=3)
    y, x = np.mgrid[:64, :64] - 31.5
    arc = np.exp(-0.5 * ((np.hypot(x, y) - 8) / 1.5) ** 2) * (x > 2)
    image += (arc[..., None] * [3.0, 1.5, 0.8, 0.5]).astype(np.float32)
    noise = judge._noise(image)
    assert _scene.shifted_bands(image, noise, HSC.bands) == ""
    assert not quality.is_fatal(quality.check(image, HSC))
