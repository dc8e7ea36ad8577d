"""Folds, fingerprints and what is measured on a cutout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import catalogue
from lensjax.catalogue import Catalogue, Lenses, Sources
from lensjax.survey import HSC

IDS = [f"galaxy-{i}" for i in range(203)]


def tiny():
    one = jnp.arange(3.0)
    lenses = Lenses(*[one + k for k in range(12)])
    return Catalogue(lenses, Sources(one, one, one, one), jnp.ones((2, 5, 5)))


def test_folds_and_test_set_are_as_even_as_they_can_be():
    part = catalogue.split(IDS, folds=5, test_fraction=0.3)
    assert part.shape == (203,) and set(part) == {-1, 0, 1, 2, 3, 4}
    assert (part == -1).sum() == 61
    sizes = [(part == k).sum() for k in range(5)]
    assert max(sizes) - min(sizes) <= 1


def test_a_galaxys_fold_does_not_depend_on_its_place_in_the_list(rng):
    part = dict(zip(IDS, catalogue.split(IDS), strict=True))
    shuffled = list(rng.permutation(IDS))
    again = dict(zip(shuffled, catalogue.split(shuffled), strict=True))
    assert part == again


def test_folds_mix_galaxies_from_all_over_the_list():
    part = catalogue.split(IDS)
    for k in range(-1, 5):
        places = np.flatnonzero(part == k)
        assert 0.35 < places.mean() / len(IDS) < 0.65
        assert (np.diff(places) != 5).any()


def test_too_few_galaxies_for_the_folds_are_refused():
    with pytest.raises(ValueError, match="6 lens galaxies cannot fill 5 folds"):
        catalogue.split(IDS[:6], folds=5)
    assert set(catalogue.split(IDS[:8], folds=5)) == {-1, 0, 1, 2, 3, 4}


def test_the_fingerprint_tells_catalogues_apart():
    galaxies = tiny()
    first = catalogue.fingerprint(galaxies, IDS)
    assert first == catalogue.fingerprint(jax.tree.map(np.array, tiny()), IDS)
    assert len(first) == 64
    other = galaxies._replace(psfs=galaxies.psfs.at[1, 2, 2].add(1e-7))
    lenses = galaxies.lenses
    swapped = galaxies._replace(lenses=lenses._replace(x=lenses.y, y=lenses.x))
    double = jax.tree.map(lambda a: np.asarray(a, float), galaxies)
    flat = galaxies._replace(psfs=galaxies.psfs.reshape(2, 25))
    others = {catalogue.fingerprint(c, IDS) for c in (other, swapped, double, flat)}
    others.add(catalogue.fingerprint(galaxies, IDS[::-1]))
    assert len(others | {first}) == 6


def test_measured_light_is_that_of_the_galaxy_before_the_psf(dtype):
    n, scale = HSC.image_size, HSC.pixel_scale
    blur = np.array([2.4, 2.2, 1.8, 2.0])  # sigma [pixel]
    own = np.array([[16.0, 5.0], [5.0, 9.0]])
    flux = np.array([20.0, 60.0, 120.0, 160.0])
    x0, y0 = 0.8, -0.5

    def gaussian(size, covariance, x, y):
        axis = np.arange(size) - (size - 1) / 2
        grid = np.stack(np.meshgrid(axis - x, axis - y), -1)
        inverse = np.linalg.inv(covariance)
        chi2 = np.einsum("...i,ij,...j->...", grid, inverse, grid)
        return np.exp(-chi2 / 2) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))

    bands = [f * gaussian(n, own + np.eye(2) * b**2, x0, y0)
             for f, b in zip(flux, blur, strict=True)]  # fmt: skip
    psf = [gaussian(43, np.eye(2) * b**2, 0, 0) for b in blur]
    image, psf = (jnp.asarray(np.stack(a, -1), dtype) for a in (bands, psf))
    found = jax.jit(lambda *a: catalogue.measure(*a, HSC))(image, psf)
    near = 1e-4 if dtype == jnp.float32 else 1e-5
    np.testing.assert_allclose(found["x"], x0 * scale, atol=near)
    np.testing.assert_allclose(found["y"], y0 * scale, atol=near)
    np.testing.assert_allclose(found["ex"], 7 / 25, atol=near)
    np.testing.assert_allclose(found["ey"], 10 / 25, atol=near)

    y, x = np.indices((n, n)) - (n - 1) / 2
    within = np.hypot(x, y) * scale < 2.0
    expected = 27.0 - 2.5 * np.log10([b[within].sum() for b in bands])
    np.testing.assert_allclose(found["mag"], expected, atol=near)
    # nearly all the light of a circular Gaussian lies within three sigma
    assert (found["mag"] > 27.0 - 2.5 * np.log10(flux)).all()
    assert found["background"].shape == (4,) and (found["background"] >= 0).all()


def test_no_flux_is_a_magnitude_far_below_the_limit():
    mag = catalogue.magnitude(jnp.array([1.0, 100.0, 0.0, -5.0]), 27.0)
    np.testing.assert_allclose(mag, [27.0, 22.0, 34.5, 34.5], rtol=1e-6)
