"""A WCS by any of its cards: scale, orientation and position against known ones."""

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose

from lensjax.catalogue import wcs
from lensjax.catalogue.cutouts import CutoutError

S = 0.168 / 3600  # side of a pixel [deg]
C30, S30 = np.cos(np.pi / 6), 0.5
BASE = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 32.5,
    "CRPIX2": 32.5,
}
CDELT = {"CDELT1": -S, "CDELT2": S}


def header(*parts, **cards):
    every = dict(BASE)
    for part in (*parts, cards):
        every |= part
    return fits.Header([(k, v) for k, v in every.items() if v is not None])


def cd(a, b, c, d, unit=S):
    values = zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), (a, b, c, d), strict=True)
    return {key: value * unit for key, value in values}


def pc(a, b, c, d, unit=1.0):
    return {key.replace("CD", "PC"): v for key, v in cd(a, b, c, d, unit).items()}


def types(x, y):
    return {"CTYPE1": x, "CTYPE2": y}


def read(header, shape=(64, 64), primary=None):
    return wcs.read(header, header if primary is None else primary, shape)


def angle_of(grid):
    """Of +y, from north to east [deg], and whether it is mirrored."""
    (a, b), (c, d) = grid.jacobian
    return np.degrees(np.arctan2(b, d)), a * d > b * c


DISTORTED = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6, "B_0_2": 1e-6, "A_1_1": 2e-7}
TURNED = -C30, -S30, -S30, C30  # +y lies 30 deg west of north
RADIANS = np.radians([150.0, 2.0, -S, S])


@pytest.mark.parametrize(
    ("cards", "angle", "mirrored"),
    [
        (CDELT, 0, False),
        (cd(-1, 0, 0, 1), 0, False),
        ({"CD1_1": -S, "CD2_2": S}, 0, False),
        (CDELT | pc(1, 0, 0, 1), 0, False),
        (CDELT | {"PC1_2": 0.0}, 0, False),
        (pc(-1, 0, 0, 1, S), 0, False),  # CDELT is 1 where there is PC alone
        (CDELT | {"CROTA2": 30.0}, -30, False),
        (CDELT | {"CROTA1": 0.0, "CROTA2": -90.0}, 90, False),
        (CDELT | {"CROTA2": 180.0}, 180, False),
        (CDELT | pc(C30, -S30, S30, C30), 30, False),
        (cd(*TURNED), -30, False),
        (CDELT | cd(*TURNED), -30, False),  # CD goes before CDELT
        (cd(1, 0, 0, 1), 0, True),
        (cd(-1, 0, 0, -1), 180, True),
        (cd(1, 0, 0, -1), 180, False),
        (cd(0, -1, -1, 0), -90, False),
        (cd(0, 1, 1, 0), 90, False),
        (cd(0, 1, -1, 0), 90, True),
        ({"CDELT1": S, "CDELT2": S}, 0, True),
        (
            {"CDELT1": -S * 60, "CDELT2": S * 60, "CUNIT1": "arcmin"}
            | {"CUNIT2": "arcmin", "CRVAL1": 9000.0, "CRVAL2": 120.0},
            0,
            False,
        ),
        (
            {"CDELT1": -0.168, "CDELT2": 0.168, "CUNIT1": "arcsec"}
            | {"CUNIT2": "arcsec", "CRVAL1": 540000.0, "CRVAL2": 7200.0},
            0,
            False,
        ),
        (
            dict(zip(("CRVAL1", "CRVAL2", "CDELT1", "CDELT2"), RADIANS, strict=True))
            | {"CUNIT1": "rad", "CUNIT2": "rad"},
            0,
            False,
        ),
        (
            cd(0, 1, -1, 0)  # of Dec and RA by x and y: all as usual
            | types("DEC--TAN", "RA---TAN")
            | {"CRVAL1": 2.0, "CRVAL2": 150.0},
            0,
            False,
        ),
        (
            {"CDELT1": S, "CDELT2": -S, "CRVAL1": 2.0, "CRVAL2": 150.0}
            | types("DEC--TAN", "RA---TAN"),
            -90,
            True,
        ),
        (CDELT | types("RA---SIN", "DEC--SIN"), 0, False),
        (CDELT | types("RA---ZEA", "DEC--ZEA"), 0, False),
        (CDELT | types("RA---TPV", "DEC--TPV") | {"PV1_1": 1.0, "PV2_1": 1.0}, 0, 0),
        (CDELT | types("RA---TAN-SIP", "DEC--TAN-SIP") | DISTORTED, 0, False),
        (CDELT | DISTORTED, 0, False),  # SIP of which CTYPE says nothing
        (CDELT | {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_5": 1e-4}, 0, False),  # of SCAMP
        (CDELT | {"LONPOLE": 90.0}, -90, False),
        (CDELT | {"LONPOLE": 180.0, "LATPOLE": 2.0}, 0, False),
        (CDELT | {"RADESYS": "FK5", "EQUINOX": 2000.0}, 0, False),
        (CDELT | {"RADECSYS": "FK5", "EPOCH": 2000.0}, 0, False),
        (CDELT | {"WCSAXES": 2, "RADESYS": "ICRS"}, 0, False),
        # an alternative WCS says nothing
        (CDELT | {"CTYPE1A": "LINEAR", "CD1_1A": 1.0, "CD2_2A": 1.0}, 0, False),
        (CDELT | {f"{k}B": v for k, v in header(cd(0, 1, 1, 0)).items()}, 0, False),
    ],
)
def test_cards_of_every_kind_give_scale_orientation_and_place(cards, angle, mirrored):
    grid = read(header(cards))
    assert grid.scale == pytest.approx(0.168, rel=2e-4)
    found, is_mirrored = angle_of(grid)
    assert (found - angle + 180) % 360 - 180 == pytest.approx(0, abs=0.02)
    assert is_mirrored == mirrored and grid.lacks == ""
    assert_allclose(wcs.to_sky(grid.wcs, 31.5, 31.5), (150, 2), atol=1e-9)
    words = wcs.orientation(grid)
    assert bool(words) == (angle != 0 or bool(mirrored))
    assert ("mirrored" in words) == bool(mirrored)
    # ten pixels towards north and east, by the angle that is known
    t = np.radians(angle)
    north, east = 10 * np.array([[np.sin(t), np.cos(t)], [-np.cos(t), np.sin(t)]])
    for step, (d_east, d_north) in ((north, (0, 1)), (east, (1, 0))):
        x, y = step * [-1 if mirrored else 1, 1] + 31.5
        ra, dec = wcs.to_sky(grid.wcs, x, y)
        away = (ra - 150) * np.cos(np.radians(2)) / S, (dec - 2) / S
        assert_allclose(away, np.multiply(10, (d_east, d_north)), atol=0.01)
        assert_allclose(wcs.to_pixels(grid.wcs, ra, dec), (x, y), atol=1e-4)


def ecliptic(lon, lat):
    """Right ascension and declination by the obliquity of 2000 [rad]."""
    e = np.radians(23.4392911)
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    y, z = y * np.cos(e) - z * np.sin(e), y * np.sin(e) + z * np.cos(e)
    return np.arctan2(y, x), np.arcsin(z)


def galactic(lon, lat):
    """Likewise by the pole at 192.85948, 27.12825 and its longitude 122.93192 [deg]."""
    a, d, lon0 = np.radians([192.85948, 27.12825, 122.93192])
    dec = np.arcsin(
        np.sin(lat) * np.sin(d) + np.cos(lat) * np.cos(d) * np.cos(lon0 - lon)
    )
    y = np.cos(lat) * np.sin(lon0 - lon)
    x = np.sin(lat) * np.cos(d) - np.cos(lat) * np.sin(d) * np.cos(lon0 - lon)
    return a + np.arctan2(y, x), dec


@pytest.mark.parametrize(
    ("names", "to_equatorial"),
    [
        (("ELON-TAN", "ELAT-TAN"), ecliptic),
        (("GLON-TAN", "GLAT-TAN"), galactic),
        (("GLON-CAR", "GLAT-CAR"), galactic),
    ],
)
def test_other_systems_turn_the_image_and_keep_its_scale(names, to_equatorial):
    grid = read(header(CDELT, types(*names), CRVAL1=40.0, CRVAL2=0.0))
    assert grid.scale == pytest.approx(0.168, rel=1e-6)
    lon, lat = np.radians([40.0, 40.0]), np.radians([0.0, 20 * S])
    ra, dec = to_equatorial(lon, lat)
    found = np.radians(wcs.to_sky(grid.wcs, [31.5, 31.5], [31.5, 51.5]))
    # frames differ in their third decimal of an arcsec, angles between pixels do not
    assert_allclose((found[0] - ra + 1) % (2 * np.pi), 1, atol=5e-7)
    assert_allclose(found[1], dec, atol=5e-7)
    angle = np.degrees(np.arctan2((ra[1] - ra[0]) * np.cos(dec[0]), dec[1] - dec[0]))
    assert angle_of(grid)[0] == pytest.approx(angle, abs=0.01) and abs(angle) > 10
    assert not angle_of(grid)[1] and "rotated by" in wcs.orientation(grid)
    back = wcs.to_pixels(grid.wcs, *np.degrees(found))
    assert_allclose(back, [[31.5, 31.5], [31.5, 51.5]], atol=1e-5)


def test_positions_of_1950_are_precessed():
    grid = read(header(CDELT, RADESYS="FK4", EQUINOX=1950.0))
    ra, dec = wcs.to_sky(grid.wcs, 31.5, 31.5)
    # 50 years at 3.07 s + 1.34 s sin(ra) tan(dec) and 20.04 arcsec cos(ra) [a year]
    assert ra - 150 == pytest.approx(50 * 15 * (3.0746 + 0.0234) / 3600, abs=0.01)
    assert dec - 2 == pytest.approx(
        50 * 20.04 * np.cos(np.radians(150.3)) / 3600, abs=0.01
    )
    assert wcs.orientation(grid) == ""


@pytest.mark.parametrize("dec", [89.9999, 90.0, -90.0, 60.0])
def test_pixels_at_a_pole_are_as_large_as_elsewhere(dec):
    assert read(header(CDELT, CRVAL2=dec)).scale == pytest.approx(0.168, rel=1e-6)


def test_the_scale_is_that_at_the_images_middle():
    """Off the tangent point by t TAN's pixels are smaller, by cos(t)^1.5."""
    grid = read(header(CDELT, types("RA---TAN", "DEC--TAN"), CRVAL2=0.0, CRPIX1=-1e5))
    off = np.arctan(np.radians(S) * (1e5 + 32.5))
    assert grid.scale == pytest.approx(0.168 * np.cos(off) ** 1.5, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "axes", "cards"),
    [
        ((1, 64, 60), (1, 2), {"CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6}),
        ((1, 64, 60), (1, 2), {}),
        ((1, 1, 64, 60), (1, 2), {"CTYPE3": "STOKES", "CTYPE4": "WAVE"}),
        ((64, 60), (1, 2), {"CTYPE3": "VELO", "WCSAXES": 3}),
        ((64, 60, 1), (2, 3), {"CTYPE1": "WAVE", "CRPIX1": 1.0, "CDELT1": 1e-9}),
    ],
)
def test_axes_of_length_one_do_not_matter(shape, axes, cards):
    cut = {}
    for n, axis in enumerate(axes, start=1):
        plane = {k: BASE[f"{k}{n}"] for k in ("CTYPE", "CRVAL", "CRPIX")}
        plane["CDELT"] = CDELT[f"CDELT{n}"]
        cut |= {f"{k}{axis}": v for k, v in plane.items()}
    grid = read(fits.Header(list((cut | cards).items())), shape)
    assert grid.scale == pytest.approx(0.168, rel=1e-6) and grid.shape == (64, 60)
    assert wcs.orientation(grid) == ""
    assert_allclose(wcs.to_sky(grid.wcs, 31.5, 31.5), (150, 2), atol=1e-9)


@pytest.mark.parametrize(
    "cards",
    [
        types(None, None),
        types("LINEAR", "LINEAR"),
        types("DETECTOR", "DETECTOR"),
        types("DETX", "DETY"),
        types("", ""),
        types(None, None) | {"CTYPE1A": "RA---TAN", "CTYPE2A": "DEC--TAN"},
        types("LINEAR", "LINEAR") | cd(0, 0, 0, 0),
        types("WAVE", "LINEAR"),
    ],
)
def test_axes_that_are_not_of_the_sky_are_no_wcs(cards):
    assert read(header(CDELT, cards)) is None


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({}, "no pixel size"),
        (cd(0, 0, 0, 0), "no pixel size"),
        ({"CDELT1": 0.0, "CDELT2": 0.0}, "no pixel size"),
        ({"CDELT1": -S, "CDELT2": 0.0}, "singular"),
        ({"CDELT2": S}, "not square"),
        (cd(1, 1, 1, 1), "singular|skewed"),
        (cd(-1, 0, 0, 1.1), "0.168 x 0.1848 arcsec that are not square"),
        (cd(-1, 0.1, 0, 1), "skewed"),
        (cd(-1, 0.02, 0, 1), "skewed"),
        (CDELT | {"CTYPE2": None}, "Unmatched celestial axes"),
        (CDELT | types("RA---XYZ", "DEC--XYZ"), "Unrecognized projection"),
        (CDELT | types("RA---TAN", "DEC--SIN"), "Inconsistent projection"),
        (CDELT | types("RA---TAN", "GLAT-TAN"), "Inconsistent projection"),
        (CDELT | types("HPLN-TAN", "HPLT-TAN"), "HPLN is no longitude"),
        (CDELT | {"CUNIT1": "furlong", "CUNIT2": "furlong"}, "CUNIT1"),
        (CDELT | {"CUNIT1": "Hz", "CUNIT2": "Hz"}, "cannot be used"),
        (CDELT | {"CRVAL2": 95.0}, "cannot be used"),
        (CDELT | {"CRVAL1": "150.0"}, "card CRVAL1 = '150.0' is no number"),
        (CDELT | {"CRPIX1": True}, "card CRPIX1 = True is no number"),
        (cd(-1, 0, 0, 1) | {"CD2_2": "4.7e-5"}, "card CD2_2"),
        (CDELT | types("RA---SIN", "DEC--SIN") | {"CRPIX1": 1e8}, "outside"),
        (CDELT | {"CRPIX1": 1e12}, "not square"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_used_is_refused_with_the_reason(cards, words):
    for flag in ("pixel_scale", "bad_psf"):
        with pytest.raises(CutoutError, match=words) as caught:
            wcs.read(header(cards), header(cards), (64, 64), flag)
        assert caught.value.flag == flag


def test_a_cubes_axis_that_is_mixed_with_the_sky_is_refused():
    cards = header(CDELT, CTYPE3="FREQ", CDELT3=1e6, PC1_3=0.5)
    with pytest.raises(CutoutError, match="off-diagonal"):
        read(cards, (1, 64, 64))
    with pytest.raises(CutoutError, match="Unmatched celestial axes"):
        read(header(CDELT, CTYPE3="FREQ", CDELT3=1e6), (64, 1, 64))


@pytest.mark.parametrize("key", ["CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"])
def test_a_missing_position_is_named(key):
    assert read(header(CDELT, {key: None})).lacks == key
    undefined = header(CDELT)
    undefined[key] = fits.card.Undefined()
    assert read(undefined).lacks == key


# --- the primary header ---------------------------------------------------------------

TILTED = header(cd(*TURNED))


@pytest.mark.parametrize("says", [True, None])
def test_an_extension_without_a_wcs_has_the_primarys(says):
    mine = fits.Header([("INHERIT", says)] if says else [])
    assert angle_of(read(mine, primary=TILTED))[0] == pytest.approx(-30, abs=1e-3)


def test_inherit_false_forbids_it_and_other_planes_ask_for_it():
    assert read(fits.Header([("INHERIT", False)]), primary=TILTED) is None
    empty, asks = fits.Header(), fits.Header([("INHERIT", True)])
    assert wcs.read(empty, TILTED, (64, 64), inherit=False) is None
    assert wcs.read(asks, TILTED, (64, 64), inherit=False) is not None


@pytest.mark.parametrize("says", [True, None, False])
def test_an_extensions_own_wcs_goes_first(says):
    mine = header(CDELT, {"INHERIT": says})
    assert wcs.orientation(read(mine, primary=TILTED)) == ""


def test_single_cards_are_inherited_one_by_one():
    mine = fits.Header([("INHERIT", True), ("CRPIX1", 2.5), ("CRPIX2", 12.5)])
    grid = read(mine, primary=TILTED)
    assert_allclose(wcs.to_sky(grid.wcs, 1.5, 11.5), (150, 2), atol=1e-9)
    mine = fits.Header([("INHERIT", True), *types("RA---TAN", "DEC--TAN").items()])
    assert angle_of(read(mine, primary=TILTED))[0] == pytest.approx(-30, abs=1e-3)


def test_a_matrix_and_a_rotation_of_two_headers_are_not_mixed():
    first = header(CDELT, CROTA2=30.0)
    mine = fits.Header([("INHERIT", True), *cd(-1, 0, 0, 1).items()])
    assert wcs.orientation(read(mine, primary=first)) == ""
    first = header(types("RA---TAN-SIP", "DEC--TAN-SIP"), CDELT, DISTORTED, A_2_0=1e-2)
    mine = header(CDELT, INHERIT=True)
    assert read(mine, primary=first).scale == pytest.approx(0.168, rel=1e-6)


def test_bands_with_the_same_cards_share_one_grid():
    one, two = header(CDELT, OBJECT="a"), header(CDELT, OBJECT="b")
    assert read(one) is read(two) and read(one) is not read(one, (64, 65))
