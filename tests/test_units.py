"""Quantities at every door: converted exactly, or refused; never a bare number."""

import copy
import functools
import pickle

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.coordinates import Angle, Longitude
from astropy.cosmology import units as cu
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked

from lensjax import (
    cosmology,
    images,
    interop,
    light,
    mock,
    next_images,
    psf,
    render,
    shear,
    sie,
    survey,
    units,
)
from lensjax import lens as lenses
from lensjax.cosmology import FlatLambdaCDM
from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE


def mas(number):
    return number * 1000 * u.mas


def plain(number):
    return number


def lens_of(a):
    """A lens whose numbers went through `a`: plain, or as quantities."""
    e = (lambda n: 100 * n * u.percent) if a is mas else plain
    return Lens(
        SIE(a(1.2), e(0.2), e(-0.1), a(0.05), a(-0.03)), Shear(e(0.03), e(0.01))
    )


def mpc(a, number):
    return number * 1e6 * u.pc if a is mas else number


def rad(a, number):
    return np.degrees(number) * u.deg if a is mas else number


def km_s(a, number):
    return number * 1000 * u.m / u.s if a is mas else number


def redshift(a, number):
    return number * cu.redshift if a is mas else number


def hubble(a):
    return FlatLambdaCDM(70e3 * u.m / u.s / u.Mpc if a is mas else 70.0, 0.3)


@functools.cache
def found(a):
    beta = 0.05, 0.08
    return images.solve(lens_of(a), *map(a, beta)), beta


def stamp(a):
    image = np.random.default_rng(0).random((9, 9, 1))
    return light.Stamp(image, np.ones(1), a(0.1))


SMALL = survey.HSC._replace(image_size=8, bands=("I",), sky_sigma=(0.08,))
KERNEL = psf.moffat(0.6, 3.0, 0.0, 0.0, 5, 0.168)[..., None]
SERSIC = light.Sersic(np.ones(1), 0.3, 2.0, 0.1, 0.2, 0.05, 0.1)


def sersic(a):
    return SERSIC._replace(radius=a(0.3), x=a(0.05), y=a(0.1))


DOORS = {
    "sie.from_axis_ratio": lambda a: sie.from_axis_ratio(
        a(1.2), 0.7, rad(a, 0.4), a(0.1), a(0.2)
    ),
    "sie.axis_ratio": lambda a: sie.axis_ratio(lens_of(a).sie),
    "sie.reduced_ellipticity": lambda a: sie.reduced_ellipticity(lens_of(a).sie),
    **{
        f"sie.{f.__name__}": lambda a, f=f: f(lens_of(a).sie, a(0.7), a(0.4), a(0.01))
        for f in (sie.direction, sie.deflect, sie.convergence, sie.potential,
                  sie.shear_components, sie.magnification)
    },
    **{
        f"shear.{f.__name__}": lambda a, f=f: f(lens_of(a).shear, a(0.7), a(0.4))
        for f in (shear.deflect, shear.potential)
    },
    **{
        f"lens.{f.__name__}": lambda a, f=f: f(lens_of(a), a(0.7), a(0.4), core=a(0.01))
        for f in (lenses.deflect, lenses.ray_shoot, lenses.convergence,
                  lenses.potential, lenses.jacobian, lenses.magnification)
    },
    "lens.without_shear": lambda a: lenses.without_shear(lens_of(a).sie),
    "lens.fermat_potential": lambda a: lenses.fermat_potential(
        lens_of(a), a(1.0), a(0.5), a(0.05), beta_y=a(0.02)
    ),
    "images.solve": lambda a: found(a)[0],
    "images.arrival_times": lambda a: images.arrival_times(
        lens_of(a), found(plain)[0], a(0.05), a(0.08), mpc(a, 3000.0)
    ),
    **{
        f"images.{f.__name__}": lambda a, f=f: f(lens_of(a), 8)
        for f in (images.critical_curve, images.caustic, images.cut)
    },
    "next_images.predict": lambda a: next_images.predict(
        lens_of(a), a(1.1), a(-0.9), D_dt=mpc(a, 3000.0)
    ),
    "next_images.compare": lambda a: next_images.compare(
        lens_of(a), lens_of(a), a(0.05), a(0.08), mpc(a, 3000.0)
    ),
    "comoving_distance": lambda a: cosmology.comoving_distance(
        hubble(a), redshift(a, 0.5)
    ),
    "angular_diameter_distance": lambda a: cosmology.angular_diameter_distance(
        hubble(a), redshift(a, 0.5), redshift(a, 1.5)
    ),
    "time_delay_distance": lambda a: cosmology.time_delay_distance(
        hubble(a), redshift(a, 0.5), 1.5
    ),
    "einstein_radius": lambda a: cosmology.einstein_radius(
        hubble(a), km_s(a, 250.0), 0.5, redshift(a, 1.5)
    ),
    "to_lenstronomy": lambda a: interop.to_lenstronomy(lens_of(a))[1],
    "light.sersic": lambda a: light.sersic(
        a(0.3), a(0.1), a(0.2), 1.0, 0.7, rad(a, 0.4), a(0.02)
    ),
    "light.brightness": lambda a: light.brightness(sersic(a), a(0.3), a(0.1)),
    "light.surface_brightness": lambda a: light.surface_brightness(
        stamp(a), *(jnp.asarray(a(v)) if a is plain else a(v) for v in (0.3, 0.1))
    ),
    "psf.moffat": lambda a: psf.moffat(a(0.8), 3.0, 0.0, 0.0, 9, a(0.2)),
    "mock.arcs": lambda a: mock.arcs(
        lens_of(a), a(0.3), a(0.1), stamp(a), KERNEL, SMALL, 1
    ),
    "render.lensed": lambda a: render.lensed(
        sersic(a), lens_of(a), KERNEL, render.Pixels(6, 0.2, 1, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_a_quantity_is_its_number_in_the_functions_unit(door):
    expected, got = (jax.tree.leaves(DOORS[door](a)) for a in (plain, mas))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(np.asarray(other, float), one, rtol=3e-4, atol=3e-4)


WRONG = {
    "length": lambda: sie.deflect(lens_of(plain).sie, 0.7 * u.m, 0.4),
    "time": lambda: images.solve(lens_of(plain), 0.05 * u.s, 0.08),
    "lens": lambda: lenses.ray_shoot(Lens(SIE(1.2 * u.kpc, 0, 0, 0, 0)), 0.7, 0.4),
    "distance": lambda: images.arrival_times(
        lens_of(plain), found(plain)[0], 0.05, 0.08, 3000 * u.arcsec
    ),
    "H0": lambda: cosmology.comoving_distance(FlatLambdaCDM(72 * u.km, 0.3), 0.5),
    "redshift": lambda: cosmology.comoving_distance(cosmology.PAPER, 0.5 * u.km),
    "dispersion": lambda: cosmology.einstein_radius(
        cosmology.PAPER, 250 * u.km, 0.5, 1.5
    ),
    "flux": lambda: light.brightness(SERSIC._replace(flux=[1.0] * u.nJy), 0.1, 0.1),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_quantity_of_another_kind_is_refused(what):
    with pytest.raises(u.UnitConversionError):
        WRONG[what]()


@pytest.mark.parametrize(
    "angles",
    [
        [100, 200] * u.mas,
        [100 * u.mas, 0.2 * u.arcsec],
        (0.1 * u.arcsec, 200 * u.mas),
        np.array([100 * u.mas, 200 * u.mas], object),
        Angle([0.1, 0.2], u.arcsec),
        Longitude([0.1, 0.2], u.arcsec),
        Column([100.0, 200.0], unit="mas"),
        MaskedColumn([100.0, 200.0], unit="mas"),
        Masked([100, 200] * u.mas, mask=[False, False]),
    ],
    ids=lambda a: type(a).__name__,
)
def test_whatever_has_a_unit_is_converted(angles):
    np.testing.assert_allclose(units.arcsec(angles), [0.1, 0.2], rtol=1e-6)


def test_a_number_under_a_mask_is_none():
    for angles in (
        MaskedColumn([100.0, 200.0], mask=[False, True], unit="mas"),
        Masked([100, 200] * u.mas, mask=[False, True]),
    ):
        with pytest.raises(ValueError, match="masked"):
            units.arcsec(angles)


def test_what_is_plain_comes_as_it_is():
    lens = lens_of(plain)
    assert units.plain(lens.sie) is lens.sie
    for number in (1.0, 2, np.float32(3), np.ones(2), jnp.ones(2), [0.1, 0.2]):
        assert units.value(number, "arcsec") is number
    assert units.value(Column([1.0, 2.0]), "arcsec")[1] == 2.0


def test_another_librarys_quantity_is_refused():
    class Pint:
        units, magnitude = "mas", 100

    with pytest.raises(TypeError, match="no quantity of astropy's"):
        units.arcsec(Pint())


def test_records_survive_a_journey_and_may_be_donated():
    lens = lens_of(plain)
    for record in (lens, found(plain)[0], SERSIC, stamp(plain), cosmology.PAPER):
        again = pickle.loads(pickle.dumps(record)), copy.deepcopy(record)
        for other in again:
            assert type(other) is type(record)
            assert jax.tree.structure(other) == jax.tree.structure(record)
    many = lenses.without_shear(sie.from_axis_ratio(np.ones(3), 0.7, 0.1))
    given = jax.jit(lambda a: jax.tree.map(lambda x: x + 1, a), donate_argnums=0)(many)
    assert given.shear.g2.shape == (3,)
