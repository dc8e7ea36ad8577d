"""Bands that are stored differently: brought to one grid exactly, or refused."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from hsc_archive import TURNS, stored

from lensjax.catalogue import cutouts, quality
from lensjax.catalogue.cutouts import CutoutError
from lensjax.survey import HSC

S = 0.168 / 3600
NY, NX = 70, 66
BANDS = "GRIZ"
STANDARD = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": (NX + 1) / 2,
    "CRPIX2": (NY + 1) / 2,
    "CD1_1": -S,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": S,
}
OTHERS = [how for how in TURNS if how != "as it is"]


def scene(band):
    """A galaxy, a neighbour north and a fainter one east of it, in HSC's noise."""
    rng = np.random.default_rng(BANDS.index(band))
    y, x = np.mgrid[:NY, :NX] - np.array([NY - 1, NX - 1])[:, None, None] / 2
    light = sum(
        flux * np.exp(-np.hypot(x - x0, y - y0) / 2)
        for flux, x0, y0 in ((5, 0, 0), (3, 0, 18), (2, -14, 0))
    )
    noise = HSC.sky_sigma[BANDS.index(band)] * rng.standard_normal((NY, NX))
    return (light + noise).astype("f4")


def hdu(plane, name, cards=STANDARD, **more):
    cards = {"PIXSCALE": 0.168, "MAGZERO": 27.0} | cards | more
    header = fits.Header([(k, v) for k, v in cards.items() if v is not None])
    return fits.ImageHDU(plane, header, name=name)


def bands(cards=STANDARD, **more):
    return {band: hdu(scene(band), band, cards, **more) for band in BANDS}


def save(path, hdus):
    every = [fits.PrimaryHDU(), *(hdus.values() if isinstance(hdus, dict) else hdus)]
    fits.HDUList(every).writeto(path, overwrite=True)
    return path


def read(path, hdus):
    cutout = cutouts.read(save(path, hdus))
    return cutout, quality.prepare(cutout, HSC).flags


def refused(path, hdus):
    with pytest.raises(CutoutError) as caught:
        cutouts.read(save(path, hdus))
    assert caught.value.flag in quality.FATAL
    return caught.value.flag, str(caught.value)


def same_as_stored_alike(cutout):
    for band in BANDS:
        np.testing.assert_array_equal(cutout.bands[band], scene(band))
        assert cutout.bands[band].flags.c_contiguous


# --- flips and quarter turns ----------------------------------------------------------


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("odd", ["R", "G", "GRI"])
def test_bands_stored_otherwise_are_turned_to_north_up_and_east_left(
    tmp_path, how, odd
):
    hdus = bands()
    hdus |= {band: stored(hdus[band], how) for band in odd}
    cutout, flags = read(tmp_path / "a.fits", hdus)
    same_as_stored_alike(cutout)
    assert list(flags) == ["aligned"]
    assert all(f"{band} " in flags["aligned"] for band in odd)


def test_of_four_ways_to_store_a_band_the_common_one_is_taken(tmp_path):
    how = ("mirrored", "a quarter left", "as it is", "transposed")
    ways = dict(zip(BANDS, how, strict=True))
    hdus = {band: stored(one, ways[band]) for band, one in bands().items()}
    cutout, flags = read(tmp_path / "a.fits", hdus)
    same_as_stored_alike(cutout)
    assert list(flags) == ["aligned"]


@pytest.mark.parametrize("how", OTHERS)
def test_bands_stored_alike_stay_as_they_are_and_say_so(tmp_path, how):
    hdus = {band: stored(one, how) for band, one in bands().items()}
    cutout, flags = read(tmp_path / "a.fits", hdus)
    for band in BANDS:
        np.testing.assert_array_equal(cutout.bands[band], TURNS[how][0](scene(band)))
    assert list(flags) == ["orientation"]


def test_without_the_common_orientation_that_of_most_bands_is_taken(tmp_path):
    ways = dict.fromkeys(BANDS, "mirrored") | {"G": "half a turn"}
    hdus = {band: stored(one, ways[band]) for band, one in bands().items()}
    cutout, flags = read(tmp_path / "a.fits", hdus)
    for band in BANDS:
        np.testing.assert_array_equal(cutout.bands[band], scene(band)[:, ::-1])
    assert set(flags) == {"orientation", "aligned"}
    assert "mirrored" in flags["orientation"] and "G " in flags["aligned"]


def rotated(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {"CD1_1": -S * c, "CD1_2": S * s, "CD2_1": S * s, "CD2_2": S * c}


def test_bands_that_are_all_rotated_alike_and_one_flipped_on_top(tmp_path):
    hdus = bands(STANDARD | rotated(30))
    hdus["Z"] = stored(hdus["Z"], "upside down")
    cutout, flags = read(tmp_path / "a.fits", hdus)
    same_as_stored_alike(cutout)
    assert set(flags) == {"orientation", "aligned"}
    assert "rotated by 30 deg:" in flags["orientation"]


@pytest.mark.parametrize("degrees", [1.5, 30, 45, 89, 91, 150])
def test_a_band_between_quarter_turns_is_refused_with_the_remedy(tmp_path, degrees):
    hdus = bands()
    hdus["R"].header.update(rotated(degrees))
    flag, text = refused(tmp_path / "a.fits", hdus)
    assert flag == "band_grid" and "band R" in text
    assert "resample it to the pixels of G" in text


@pytest.mark.parametrize("other", ["R", "G", "RIZ", "GRI"])
@pytest.mark.parametrize("names", [(None, None), ("LINEAR", "LINEAR")])
def test_a_band_without_wcs_beside_one_that_has_one_is_refused(tmp_path, other, names):
    hdus = bands()
    for band in other:
        for key, name in zip(("CTYPE1", "CTYPE2"), names, strict=True):
            del hdus[band].header[key]
            if name:
                hdus[band].header[key] = name
    flag, text = refused(tmp_path / "a.fits", hdus)
    assert flag == "band_grid" and f"band {', '.join(other)} has no WCS" in text
    assert "of all bands, or of none" in text


def test_a_band_whose_wcs_has_no_position_is_refused_if_others_have(tmp_path):
    hdus = bands()
    del hdus["R"].header["CRVAL1"]
    flag, text = refused(tmp_path / "a.fits", hdus)
    assert flag == "band_grid" and "band R lacks CRVAL1" in text
    hdus = bands(CRVAL1=None)
    cutout, flags = read(tmp_path / "b.fits", hdus)
    same_as_stored_alike(cutout)
    assert flags == {"no_wcs": "the WCS lacks CRVAL1: no position"}


def test_different_words_for_one_wcs_are_one_grid(tmp_path):
    hdus = bands()
    header = hdus["R"].header
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    header.update(CDELT1=-0.168, CDELT2=0.168, CUNIT1="arcsec", CUNIT2="arcsec")
    header.update(CRVAL1=540000.0, CRVAL2=7200.0)
    swapped = hdus["Z"].header
    swapped.update(CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=2.0, CRVAL2=150.0)
    swapped.update(CD1_1=0.0, CD1_2=S, CD2_1=-S, CD2_2=0.0)
    cutout, flags = read(tmp_path / "a.fits", hdus)
    same_as_stored_alike(cutout)
    assert flags == {}


# --- shifts ---------------------------------------------------------------------------


def cut(one, left, low, right, top):
    """A band that was cut out elsewhere, by whole pixels."""
    ny, nx = one.data.shape
    data = one.data[low : ny - top, left : nx - right].copy()
    one = fits.ImageHDU(data, one.header.copy())
    one.header["CRPIX1"] -= left
    one.header["CRPIX2"] -= low
    return one


def test_bands_shifted_by_whole_pixels_are_cut_about_the_same_middle(tmp_path):
    hdus = bands()
    hdus["G"] = cut(hdus["G"], 1, 0, 0, 2)
    cutout, flags = read(tmp_path / "a.fits", hdus)
    for band in BANDS:
        np.testing.assert_array_equal(cutout.bands[band], scene(band)[2:-2, 1:-1])
    assert flags == {"aligned": "the bands share 66 x 64 pixels of 70 x 66"}
    hdus["Z"] = stored(cut(hdus["Z"], 0, 1, 1, 0), "a quarter right")
    cutout, flags = read(tmp_path / "a.fits", hdus)
    for band in BANDS:
        np.testing.assert_array_equal(cutout.bands[band], scene(band)[2:-2, 1:-1])
    assert "Z turned by 90 deg as R is" in flags["aligned"]


def test_what_is_left_of_shifted_bands_may_be_too_small(tmp_path):
    hdus = bands()
    hdus["G"] = cut(hdus["G"], 3, 0, 0, 0)
    flags = read(tmp_path / "a.fits", hdus)[1]
    assert set(flags) == {"aligned", "too_small"}
    assert "70 x 60 pixels of 70 x 66" in flags["aligned"]


@pytest.mark.parametrize(("dx", "told"), [(0.05, []), (0.4, ["shifted_band"])])
def test_bands_shifted_by_part_of_a_pixel_are_flagged(tmp_path, dx, told):
    hdus = bands()
    hdus["R"].header["CRPIX1"] += dx
    cutout, flags = read(tmp_path / "a.fits", hdus)
    same_as_stored_alike(cutout)
    assert list(flags) == told
    if told:
        assert "R by (0.40, " in flags["shifted_band"]


@pytest.mark.parametrize(
    ("cards", "flag", "words"),
    [
        ({"CRPIX1": 300.0}, "other_place", "R shows another place than G"),
        ({"CRVAL2": 2.5}, "other_place", "R shows another place than G"),
        ({"CRVAL1": 330.0, "CRVAL2": -2.0}, "other_place", "R shows another"),
        ({"CRPIX1": 80.0}, "too_small", "about one place"),
        ({"CD1_1": -1.02 * S, "CD2_2": 1.02 * S, "PIXSCALE": None}, "pixel_scale", ""),
    ],
)
def test_a_band_of_another_place_or_scale_is_refused(tmp_path, cards, flag, words):
    hdus = bands()
    for key, value in cards.items():
        del hdus["R"].header[key]
        if value is not None:
            hdus["R"].header[key] = value
    found, text = refused(tmp_path / "a.fits", hdus)
    assert found == flag and words in text


def test_bands_of_different_shape_are_cut_only_where_a_wcs_says_where(tmp_path):
    hdus = bands()
    hdus["I"] = cut(hdus["I"], 1, 2, 1, 2)
    assert read(tmp_path / "a.fits", hdus)[0].bands["R"].shape == (66, 64)
    for one in hdus.values():
        del one.header["CTYPE1"], one.header["CTYPE2"]
    assert refused(tmp_path / "a.fits", hdus)[0] == "band_shape"


# --- planes beside the bands ----------------------------------------------------------


def plane(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "MASK":
        return (rng.random((NY, NX)) < 0.1).astype("u1")
    if kind == "PSF":
        return rng.random((9, 7)).astype("f4")
    return (1 + rng.random((NY, NX))).astype("f4")


KEPT = {"PSF": "psf", "NOISE": "noise", "VARIANCE": "noise", "MASK": "mask"}
NO_WCS = dict.fromkeys(STANDARD)


def kept(kind, values):
    if kind == "VARIANCE":
        return np.sqrt(values)
    return values != 0 if kind == "MASK" else values


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        (kind, name.format(kind), owner)
        for kind, (name, owner) in itertools.product(
            KEPT,
            [
                ("{}", ""),
                ("{}_R", "R"),
                ("R_{}", "R"),
                ("HSC-R2_{}", "R"),
                ("{}-r", "R"),
            ],
        )
    ],
)
def test_planes_go_by_any_of_their_names(tmp_path, kind, name, owner):
    hdus = [*bands().values(), hdu(plane(kind), name, NO_WCS)]
    cutout = read(tmp_path / "a.fits", hdus)[0]
    every = {k: getattr(cutout, k) for k in ("psf", "noise", "mask")}
    found = every.pop(KEPT[kind])
    assert list(found) == [owner] and not any(every.values())
    np.testing.assert_array_equal(found[owner], kept(kind, plane(kind)))
    assert found[owner].dtype == (bool if kind == "MASK" else np.float32)


def test_the_filter_card_names_the_owner_of_a_plane(tmp_path):
    planes = [
        hdu(plane("NOISE", k), "NOISE", FILTER=f"HSC-{b}") for k, b in enumerate(BANDS)
    ]
    cutout = read(tmp_path / "a.fits", [*bands().values(), *planes])[0]
    for k, band in enumerate(BANDS):
        np.testing.assert_array_equal(cutout.noise[band], plane("NOISE", k))


def test_planes_of_other_bands_and_weights_are_left_alone(tmp_path):
    names = ("NOISE_Y", "PSF_F814W", "MASK_STAR", "IVAR", "INVVAR_R", "WEIGHT")
    planes = [fits.ImageHDU(np.ones((5, 3), "f4"), name=name) for name in names]
    cutout, flags = read(tmp_path / "a.fits", [*bands().values(), *planes])
    assert not (cutout.noise or cutout.psf or cutout.mask or flags)


def test_a_variance_that_is_not_positive_is_no_noise(tmp_path):
    values = plane("VARIANCE")
    values[0, :5] = 0, -1, np.nan, np.inf, 4
    hdus = [*bands().values(), fits.ImageHDU(values, name="VARIANCE_I")]
    noise = read(tmp_path / "a.fits", hdus)[0].noise["I"]
    assert np.isnan(noise[0, :3]).all() and noise[0, 3] == np.inf and noise[0, 4] == 2
    np.testing.assert_array_equal(noise[1:], np.sqrt(values[1:]))


def test_noise_goes_before_variance_and_nothing_stands_twice(tmp_path):
    noise, variance = (hdu(plane(k), f"{k}_R") for k in ("NOISE", "VARIANCE"))
    for pair in ([noise, variance], [variance, noise]):
        cutout = read(tmp_path / "a.fits", [*bands().values(), *pair])[0]
        np.testing.assert_array_equal(cutout.noise["R"], plane("NOISE"))
    for kind in KEPT:
        pair = [hdu(plane(kind), f"{kind}_R"), hdu(plane(kind), f"R_{kind}")]
        flag, text = refused(tmp_path / "a.fits", [*bands().values(), *pair])
        assert flag == "duplicate_band" and "of R stands twice" in text


def mask(values, name="MASK", **cards):
    cards = {f"HIERARCH {k}" if len(k) > 8 else k: v for k, v in cards.items()}
    return fits.ImageHDU(values, fits.Header(cards), name=name)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u4", "f4", "f8"])
def test_a_mask_is_bad_where_it_is_not_zero_or_its_own_cards_say_so(tmp_path, dtype):
    values = np.zeros((NY, NX), dtype)
    values[3, :5] = 1, 2, 4, 33, 8
    plain = read(tmp_path / "a.fits", [*bands().values(), mask(values)])[0].mask[""]
    assert plain.sum() == 5 and plain[3, :5].all()
    named = mask(values, MP_BAD=0, MP_DETECTED=1, MP_SAT=2, MP_CR=3, MP_NO_DATA=9)
    cutout = read(tmp_path / "b.fits", [*bands().values(), named])[0]
    np.testing.assert_array_equal(cutout.mask[""][3, :6], [1, 0, 1, 1, 0, 0])
    assert cutout.mask[""].sum() == 3


def test_a_high_bit_and_a_missing_value_of_a_mask_count(tmp_path):
    values = np.zeros((NY, NX), "i4")
    values[1, 1], values[2, 2] = 1 << 30, 1 << 29
    named = mask(values, MP_NO_DATA=30)
    found = read(tmp_path / "a.fits", [*bands().values(), named])[0].mask[""]
    assert found[1, 1] and found.sum() == 1
    holes = np.zeros((NY, NX), "f4")
    holes[4, 4] = np.nan
    for cards in ({}, {"MP_BAD": 0}):
        one = mask(holes, "MASK_G", **cards)
        found = read(tmp_path / "b.fits", [*bands().values(), one])[0].mask["G"]
        assert found[4, 4] and found.sum() == 1


@pytest.mark.parametrize("name", ["MASK", "MASK_I", "VARIANCE", "Z_NOISE"])
@pytest.mark.parametrize(("share", "told"), [(0.1, False), (0.35, True)])
def test_more_than_a_fifth_of_bad_pixels_is_flagged(tmp_path, name, share, told):
    values = np.zeros((NY, NX), "f4")
    values[3 : 3 + round(share * 64)] = 1
    if "MASK" not in name:
        values = 1 - values
    flags = read(tmp_path / "a.fits", [*bands().values(), mask(values, name)])[1]
    assert list(flags) == (["masked"] if told else [])
    if told:
        assert ("mask" if "MASK" in name else "noise plane") in flags["masked"]


def test_mask_and_noise_count_together(tmp_path):
    bad, noise = np.zeros((NY, NX), "u1"), np.ones((NY, NX), "f4")
    bad[3:12], noise[-12:] = 1, 0
    hdus = [*bands().values(), mask(bad, "R_MASK"), mask(noise, "NOISE")]
    assert read(tmp_path / "a.fits", hdus[:-1])[1] == {}
    assert read(tmp_path / "a.fits", [*hdus[:4], hdus[-1]])[1] == {}
    text = read(tmp_path / "a.fits", hdus)[1]["masked"]
    assert text.startswith("R ") and "mask and noise plane" in text


@pytest.mark.parametrize("kind", ["NOISE", "VARIANCE", "MASK"])
@pytest.mark.parametrize("owner", ["", "_R"])
def test_a_plane_of_another_shape_is_refused(tmp_path, kind, owner):
    hdus = [*bands().values(), hdu(plane(kind)[:-1], kind + owner)]
    flag, text = refused(tmp_path / "a.fits", hdus)
    assert flag == "band_shape" and f"{kind}{owner} is 69 x 66" in text


def test_a_shape_that_only_the_survey_sees_is_flagged():
    image = {b: scene(b) for b in BANDS}
    zero = dict.fromkeys(BANDS, 27.0)
    small = {"R": np.zeros((5, 5), bool)}
    cutout = cutouts.Cutout(image, 0.168, zero, {}, {}, small, {}, {})
    assert set(quality.prepare(cutout, HSC).flags) == {"band_shape"}


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("own", [False, True])
def test_planes_follow_the_turn_of_their_band(tmp_path, how, own):
    """With a WCS of their own, or, stored as their band is, without."""
    hdus = bands()
    cards = STANDARD if own else NO_WCS
    planes = [hdu(plane(k, 5), f"{k}_R", cards) for k in ("PSF", "NOISE", "MASK")]
    planes += [hdu(plane(k, 6), f"{k}_I", cards) for k in ("PSF", "NOISE", "MASK")]
    hdus["R"] = stored(hdus["R"], how)
    planes[:3] = [stored(one, how) for one in planes[:3]]
    cutout = read(tmp_path / "a.fits", [*hdus.values(), *planes])[0]
    same_as_stored_alike(cutout)
    for band, seed in (("R", 5), ("I", 6)):
        for kind in ("PSF", "NOISE", "MASK"):
            found = getattr(cutout, KEPT[kind])[band]
            np.testing.assert_array_equal(found, kept(kind, plane(kind, seed)))
            assert found.flags.c_contiguous


@pytest.mark.parametrize("how", ["upside down", "a quarter left", "half a turn"])
def test_a_plane_with_its_own_wcs_is_turned_by_it(tmp_path, how):
    """The band is stored otherwise, its planes are not; and the other way round."""
    planes = [hdu(plane(k, 5), f"{k}_R") for k in ("PSF", "NOISE", "MASK")]
    first = bands()
    turned = [stored(one, how) for one in planes]
    for hdus, beside in (
        (first | {"R": stored(first["R"], how)}, planes),
        (first, turned),
    ):
        cutout = read(tmp_path / "a.fits", [*hdus.values(), *beside])[0]
        for kind in ("PSF", "NOISE", "MASK"):
            found = getattr(cutout, KEPT[kind])["R"]
            np.testing.assert_array_equal(found, kept(kind, plane(kind, 5)))
    planes[1].header.update(rotated(30))
    flag, text = refused(tmp_path / "a.fits", [*first.values(), *planes])
    assert flag == "band_grid" and "NOISE_R is turned against R" in text


def test_planes_are_cut_with_their_bands(tmp_path):
    hdus = bands()
    hdus["G"] = cut(hdus["G"], 2, 0, 0, 0)
    planes = [hdu(plane(k), f"{k}_R", NO_WCS) for k in ("NOISE", "MASK", "PSF")]
    shorter = fits.ImageHDU(plane("NOISE")[:, 2:].copy(), name="NOISE_G")
    cutout = read(tmp_path / "a.fits", [*hdus.values(), *planes, shorter])[0]
    for one in (cutout.noise["R"], cutout.noise["G"]):
        np.testing.assert_array_equal(one, plane("NOISE")[:, 2:-2])
    np.testing.assert_array_equal(cutout.mask["R"], plane("MASK")[:, 2:-2] != 0)
    np.testing.assert_array_equal(cutout.psf["R"], plane("PSF"))


@pytest.mark.parametrize("kind", ["NOISE", "MASK", "PSF"])
def test_a_plane_for_all_bands_needs_a_wcs_where_they_are_stored_differently(
    tmp_path, kind
):
    hdus = bands()
    hdus["R"] = stored(hdus["R"], "mirrored")
    flag, text = refused(
        tmp_path / "a.fits", [*hdus.values(), hdu(plane(kind), kind, NO_WCS)]
    )
    assert flag == "band_grid" and f"{kind} serves all bands" in text
    for one in (hdu(plane(kind), kind), stored(hdu(plane(kind), kind), "upside down")):
        cutout = read(tmp_path / "b.fits", [*hdus.values(), one])[0]
        found = getattr(cutout, KEPT[kind])[""]
        np.testing.assert_array_equal(found, kept(kind, plane(kind)))


def test_a_psf_of_another_scale_is_refused(tmp_path):
    fine = {key: value / 3 for key, value in STANDARD.items() if key[:2] == "CD"}
    for cards in ({"PIXSCALE": 0.056}, STANDARD | fine):
        psf = fits.ImageHDU(plane("PSF"), fits.Header(cards), name="PSF_R")
        flag, text = refused(tmp_path / "a.fits", [*bands().values(), psf])
        assert flag == "bad_psf" and "0.056 arcsec per pixel, R 0.168" in text
    broken = STANDARD | {"CD1_1": 0.0}
    psf = fits.ImageHDU(plane("PSF"), fits.Header(broken), name="PSF_R")
    assert refused(tmp_path / "a.fits", [*bands().values(), psf])[0] == "bad_psf"
