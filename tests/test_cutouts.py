"""Cutouts: what is read is right, and what is broken says so by name."""

import copy
import gzip
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from lensjax.catalogue import _fits_files, cutouts, quality
from lensjax.catalogue.cutouts import CutoutError
from lensjax.survey import HSC

DATA = Path(
    os.environ.get("LENSJAX_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
)


def galaxy(n=64, nx=None, seed=0):
    """A round galaxy at the centre on HSC noise: (n, nx, 4) counts at zero point 27."""
    nx = nx or n
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :nx]
    light = 5 * np.exp(-np.hypot(y - (n - 1) / 2, x - (nx - 1) / 2) / 4)
    noise = rng.normal(size=(n, nx, 4)) * HSC.sky_sigma
    return (light[..., None] * [0.2, 0.5, 0.8, 1.0] + noise).astype(np.float32)


def extension(plane, name=None, **cards):
    cards = {"PIXSCALE": 0.168, "MAGZERO": 27.0} | cards
    header = fits.Header([(k, v) for k, v in cards.items() if v is not None])
    return fits.ImageHDU(plane, header, name=name)


def extensions(image, names="GRIZ", **cards):
    return [extension(image[..., k], name, **cards) for k, name in enumerate(names)]


def save(path, hdus, **options):
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, **options)
    return path


def flags_of(path, survey=HSC):
    return quality.prepare(cutouts.read(path, survey.bands), survey).flags


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def refused(path):
    with pytest.raises(CutoutError) as caught:
        cutouts.read(path)
    assert Path(path).name in str(caught.value)
    assert caught.value.flag in quality.FATAL
    return caught.value.flag


def test_a_good_cutout_comes_back_as_written_without_flags(tmp_path):
    image = galaxy()
    cutout = cutouts.read(save(tmp_path / "a.fits", extensions(image)))
    assert list(cutout.bands) == ["G", "R", "I", "Z"]
    for k, plane in enumerate(cutout.bands.values()):
        assert plane.dtype == np.dtype("f4") and plane.dtype.isnative
        assert plane.flags.c_contiguous
        np.testing.assert_array_equal(plane, image[..., k])
    assert cutout.pixel_scale == 0.168 and set(cutout.zero_point.values()) == {27.0}
    prepared = quality.prepare(cutout, HSC)
    assert prepared.flags == {} and prepared.shift == 0
    np.testing.assert_array_equal(prepared.pixels, image)


@pytest.mark.parametrize(
    "names",
    [
        ("g", "r", "i", "z"),
        ("HSC-G", "HSC-R2", "HSC-I2", "HSC-Z"),
        ("G", "r2", "des_i", "SDSS-Z"),
    ],
)
def test_bands_go_by_any_of_their_names_in_any_order(tmp_path, names):
    image = galaxy()
    hdus = extensions(image, names)[::-1] + [extension(image[..., 0] * 9, "Y")]
    cutout = cutouts.read(save(tmp_path / "a.fits", hdus))
    np.testing.assert_array_equal(np.stack(list(cutout.bands.values()), -1), image)


def test_the_filter_card_names_a_band_under_a_generic_extname(tmp_path):
    image = galaxy()
    hdus = [
        extension(image[..., k], name, FILTER=f"HSC-{band}")
        for k, (name, band) in enumerate(
            zip([None, "SCI", "IMAGE", "Z"], "GRIZ", strict=True)
        )
    ]
    cutout = cutouts.read(save(tmp_path / "a.fits", hdus))
    np.testing.assert_array_equal(np.stack(list(cutout.bands.values()), -1), image)
    hdus[3].header["FILTER"] = "HSC-Y"
    assert refused(save(tmp_path / "b.fits", hdus)) == "band_conflict"


def test_psf_and_noise_planes_come_along(tmp_path):
    image = galaxy()
    psf, noise = np.eye(5, dtype="f4"), np.ones((64, 64), "f4")
    hdus = extensions(image) + [fits.ImageHDU(psf, name="PSF_G")]
    hdus.append(fits.ImageHDU(noise, name="NOISE"))
    cutout = cutouts.read(save(tmp_path / "a.fits", hdus))
    np.testing.assert_array_equal(cutout.psf["G"], psf)
    np.testing.assert_array_equal(cutout.noise[""], noise)
    noise[:16] = 1e8
    path = save(tmp_path / "b.fits", hdus)
    assert list(flags_of(path)) == ["masked"]


def test_integers_with_scale_and_blank_and_doubles_become_float32(tmp_path):
    image = galaxy()
    hdus = extensions(image.astype("f8"))
    scaled = hdus[0]
    scaled.scale("int16", bscale=0.001)
    scaled.data[3, 4] = -32768
    scaled.header["BLANK"] = -32768
    path = save(tmp_path / "a.fits", hdus)
    assert (path.read_bytes()[2880:5760].count(b"BSCALE")) == 1
    g = cutouts.read(path).bands["G"]
    assert g.dtype == np.float32 and np.isnan(g[3, 4])
    good = np.isfinite(g)
    np.testing.assert_allclose(g[good], image[..., 0][good], atol=6e-4)
    np.testing.assert_array_equal(cutouts.read(path).bands["R"], image[..., 1])


def test_blank_is_nan_in_unsigned_integers_too(tmp_path):
    plane = np.arange(4096, dtype="u2").reshape(64, 64)
    hdu = fits.ImageHDU(plane, extensions(galaxy())[0].header)
    hdu.header["BLANK"] = 5 - 32768  # as stored, before BZERO
    hdus = [hdu, *extensions(galaxy())[1:]]
    g = cutouts.read(save(tmp_path / "a.fits", hdus)).bands["G"]
    assert g.dtype == np.float32 and np.isnan(g[0, 5])
    np.testing.assert_array_equal(np.delete(g, 5), np.delete(plane, 5))


def test_tile_compressed_images_are_unpacked(tmp_path):
    image = galaxy()
    image[3, 4, 1] = np.nan

    def tiled(name, damage=lambda raw: raw, checksum=True, **options):
        hdus = [
            fits.CompImageHDU(hdu.data, hdu.header, **options)
            for hdu in extensions(image)
        ]
        path = save(tmp_path / name, hdus, checksum=checksum)
        path.write_bytes(damage(bytearray(path.read_bytes())))
        return path

    def flip(raw):
        raw[len(raw) // 2] ^= 1
        return raw

    def rows(text):
        have = b"ZNAXIS2 =" + b"64".rjust(21)
        return lambda raw: raw.replace(have, b"ZNAXIS2 =" + text.rjust(21))

    exact = tiled("a.fits", compression_type="GZIP_2", quantize_level=0)
    rice = tiled("b.fits", compression_type="RICE_1", quantize_level=64)
    assert flags_of(exact) == flags_of(rice) == {"nan_pixel": "R 1 pixels"}
    for k, plane in enumerate(cutouts.read(exact).bands.values()):
        assert plane.dtype == np.float32 and plane.flags.c_contiguous
        np.testing.assert_array_equal(plane, image[..., k])
    for k, plane in enumerate(cutouts.read(rice).bands.values()):
        np.testing.assert_allclose(plane, image[..., k], atol=HSC.sky_sigma[k] / 64)
    assert refused(tiled("c.fits", flip)) == "checksum"
    assert refused(tiled("d.fits", lambda raw: raw[:-2880], False)) == "truncated"
    assert refused(tiled("e.fits", rows(b"60"), False)) == "bad_header"
    assert refused(tiled("f.fits", rows(b"640000"), False)) == "bad_header"


def test_a_bomb_of_tiles_is_not_unpacked(tmp_path, monkeypatch):
    hdus = [fits.CompImageHDU(hdu.data, hdu.header) for hdu in extensions(galaxy())]
    path = save(tmp_path / "a.fits", hdus)
    monkeypatch.setattr(_fits_files, "_content", lambda path: Path(path).read_bytes())
    monkeypatch.setattr(_fits_files, "MAX_BYTES", 64 * 64 * 4 - 1)
    assert refused(path) == "too_large"


def test_tile_compressed_integers_are_scaled(tmp_path):
    image, hdus = galaxy(), []
    for k, name in enumerate("GRIZ"):
        counts = np.round(image[..., k] / 0.001).astype("i2")
        counts[3, 4] = -32768
        header = extension(None, name).header
        hdu = fits.CompImageHDU(counts, header, uint=False)
        hdu.header["BSCALE"], hdu.header["BLANK"] = 0.001, -32768
        hdus.append(hdu)
    path = save(tmp_path / "a.fits", hdus)
    for k, plane in enumerate(cutouts.read(path).bands.values()):
        assert plane.dtype == np.float32 and np.isnan(plane[3, 4])
        good = np.isfinite(plane)
        assert good.sum() == 4095
        np.testing.assert_allclose(plane[good], image[..., k][good], atol=6e-4)


def test_gzip_is_read_and_a_bomb_is_not(tmp_path):
    raw = save(tmp_path / "a.fits", extensions(galaxy())).read_bytes()
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(raw))
    assert flags_of(tmp_path / "a.fits.gz") == {}
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(raw)[:-2000])
    assert refused(tmp_path / "b.fits.gz") == "truncated"
    bomb = gzip.compress(bytes(_fits_files.MAX_BYTES + 2880), compresslevel=1)
    (tmp_path / "c.fits.gz").write_bytes(bomb)
    assert refused(tmp_path / "c.fits.gz") == "too_large"


# --- files ----------------------------------------------------------------------------


def side(text):
    """Another NAXIS1 in all headers."""
    have = b"NAXIS1  =" + b"64".rjust(21)
    return lambda raw: raw.replace(have, b"NAXIS1  =" + text.rjust(21))


def second(old, new):
    """Another text in the second extension and all after it, once."""
    return lambda raw: raw[:23040] + raw[23040:].replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "flag"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: raw[:-1], "truncated"),
        (lambda raw: raw[:-2880], "truncated"),
        (lambda raw: raw[:5], "truncated"),
        (lambda raw: raw[:4000], "truncated"),
        (lambda raw: raw[:2880], "missing_band"),
        (lambda raw: raw + b"rubbish", "truncated"),
        (lambda raw: raw + b"rubbish!" * 360, "truncated"),
        (lambda raw: b"", "empty_file"),
        (lambda raw: b"\n<!DOCTYPE html><html><body>Log in</body></html>", "html"),
        (lambda raw: b"PK\x03\x04" + raw, "not_fits"),
        (side(b"60"), "bad_header"),  # fills as many blocks
        (side(b"9"), "bad_header"),
        (side(b"640000000"), "truncated"),
        (side(b"-64"), "bad_header"),
        (side(b"6.4"), "bad_header"),
        (second(b"-32", b" 17"), "bad_header"),
        (second(b"XTENSION", b"EXTENSIO"), "bad_header"),
        (second(b"END".ljust(80), b"EMD".ljust(80)), "bad_header"),
        (second(b"27.0", b"27.x"), "bad_header"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage, flag):
    path = save(tmp_path / "a.fits", extensions(galaxy()))
    path.write_bytes(damage(path.read_bytes()))
    assert refused(path) == flag


@pytest.mark.parametrize("checksum", [False, True])
def test_a_file_cut_anywhere_in_its_data_is_truncated(tmp_path, checksum):
    raw = save(tmp_path / "a", extensions(galaxy()), checksum=checksum).read_bytes()
    for parts in range(9, 31):
        path = tmp_path / "b.fits"
        path.write_bytes(raw[: len(raw) * parts // 31])
        assert refused(path) in ("truncated", "missing_band"), parts
    path.write_bytes(raw[: len(raw) * 2 // 3])
    assert refused(path) == "truncated"


def test_one_flipped_byte_fails_the_checksum(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy()), checksum=True)
    assert flags_of(path) == {}
    raw = bytearray(path.read_bytes())
    raw[3 * 2880 + 5000] ^= 1
    path.write_bytes(raw)
    assert refused(path) == "checksum"
    raw[3 * 2880 + 5000] ^= 1
    at = raw.index(b"27.0")  # a header's byte: the data's sum does not know
    raw[at : at + 4] = b"27.5"
    path.write_bytes(raw)
    assert refused(path) == "checksum"


def test_zeros_at_the_end_and_a_needless_blank_do_no_harm(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy()))
    raw = path.read_bytes() + bytes(2880)
    at = raw.index(b"GCOUNT")
    raw = raw[:at] + b"BLANK   =                   -1".ljust(80) + raw[at + 80 :]
    path.write_bytes(raw)
    assert flags_of(path) == {}


def test_threads_read_alike_and_leave_the_filters_alone(tmp_path):
    good = save(tmp_path / "a.fits", extensions(galaxy()), checksum=True)
    raw = bytearray(good.read_bytes())
    raw[3 * 2880 + 5000] ^= 1
    bad = tmp_path / "b.fits"
    bad.write_bytes(raw)

    def flag(path):
        try:
            return cutouts.read(path).warnings
        except CutoutError as error:
            return error.flag

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        flags = list(pool.map(flag, [good, bad] * 40))
    assert flags == [{}, "checksum"] * 40 and warnings.filters == before


def test_what_is_no_file_is_refused(tmp_path):
    folder, pipe, loop = (tmp_path / f"{n}.fits" for n in ("folder", "pipe", "loop"))
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    assert refused(folder) == refused(pipe) == "not_a_file"
    assert refused(loop) == "unreadable"
    assert refused(tmp_path / "gone.fits") == "missing_file"


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.fits", extensions(galaxy()))

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)  # root may read everything
    assert refused(path) == "unreadable"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, through_pickle])
def test_a_refusal_comes_back_whole_from_another_process(tmp_path, again):
    with pytest.raises(CutoutError) as caught:
        cutouts.read(tmp_path / "gone.fits")
    back = again(caught.value)
    assert type(back) is CutoutError and back.flag == "missing_file"
    assert str(back) == str(caught.value) == "gone.fits: does not exist (any more)"
    assert again(back).args == caught.value.args


def test_odd_names_are_names(tmp_path):
    for name in ("-a.fits", "a b.fits", "é[1].fits"):
        assert flags_of(save(tmp_path / name, extensions(galaxy()))) == {}


# --- headers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("missing_band", lambda h: h[:3]),
        ("missing_band", lambda h: []),
        ("duplicate_band", lambda h: [*h, extension(galaxy()[..., 0], "HSC-G")]),
        ("band_shape", lambda h: [*h[:3], extension(galaxy(66)[..., 0], "Z")]),
        ("cube", lambda h: [*h[:3], extension(np.ones((4, 4, 4), "f4"), "Z")]),
        ("cube", lambda h: [*h[:3], extension(np.ones(64, "f4"), "Z")]),
        ("pixel_scale", lambda h: extensions(galaxy(), PIXSCALE=None)),
        ("pixel_scale", lambda h: extensions(galaxy(), PIXSCALE="big")),
        ("pixel_scale", lambda h: extensions(galaxy(), PIXSCALE=-0.168)),
        (
            "pixel_scale",
            lambda h: [*h[:3], extension(galaxy()[..., 3], "Z", PIXSCALE=0.2)],
        ),
        ("zero_point", lambda h: extensions(galaxy(), MAGZERO="AB")),
        ("zero_point", lambda h: extensions(galaxy(), MAGZERO=-1.0)),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(tmp_path, flag, change):
    assert refused(save(tmp_path / "a.fits", change(extensions(galaxy())))) == flag


def wcs(a, b, c, d):
    cards = dict(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0)
    cards |= {"CRPIX1": 32.5, "CRPIX2": 32.5}
    for key, value in zip(
        ("CD1_1", "CD1_2", "CD2_1", "CD2_2"), (a, b, c, d), strict=True
    ):
        cards[key] = value / 3600
    return cards


def test_the_wcs_gives_the_pixel_scale_where_the_card_is_missing(tmp_path):
    cards = wcs(-0.168, 0, 0, 0.168) | {"PIXSCALE": None}
    cutout = cutouts.read(save(tmp_path / "a.fits", extensions(galaxy(), **cards)))
    assert cutout.pixel_scale == pytest.approx(0.168) and not cutout.warnings


@pytest.mark.parametrize(
    ("cd", "words"),
    [((0.168, 0, 0, 0.168), "mirrored"), ((0, -0.168, -0.168, 0), "rotated by")],
)
def test_a_turned_or_mirrored_wcs_is_flagged(tmp_path, cd, words):
    path = save(tmp_path / "a.fits", extensions(galaxy(), **wcs(*cd)))
    assert words in flags_of(path)["orientation"]


def test_a_wcs_that_contradicts_the_card_or_has_no_square_pixels_is_refused(tmp_path):
    hdus = extensions(galaxy(), **wcs(-0.2, 0, 0, 0.2))
    assert refused(save(tmp_path / "a.fits", hdus)) == "pixel_scale"
    hdus = extensions(galaxy(), **wcs(-0.168, 0, 0, 0.2))
    assert refused(save(tmp_path / "b.fits", hdus)) == "pixel_scale"


TURNED = wcs(0, 0.168, 0.168, 0)


@pytest.mark.parametrize("inherit", [True, None])
@pytest.mark.parametrize("scale", [0.168, None])
def test_the_wcs_of_the_primary_header_is_that_of_its_extensions(
    tmp_path, inherit, scale
):
    hdus = extensions(galaxy(), PIXSCALE=None, INHERIT=inherit)
    primary = fits.PrimaryHDU()
    primary.header.update(TURNED)
    if scale:
        primary.header["PIXSCALE"] = scale
    fits.HDUList([primary, *hdus]).writeto(tmp_path / "a.fits")
    cutout = cutouts.read(tmp_path / "a.fits")
    assert cutout.pixel_scale == pytest.approx(0.168)
    assert "rotated by 90 deg:" in flags_of(tmp_path / "a.fits")["orientation"]


def test_an_extension_may_refuse_the_primarys_wcs(tmp_path):
    primary = fits.PrimaryHDU()
    primary.header.update(TURNED)
    path = tmp_path / "a.fits"
    fits.HDUList([primary, *extensions(galaxy(), INHERIT=False)]).writeto(path)
    assert flags_of(path) == {}


@pytest.mark.parametrize("tiles", [False, True])
def test_a_cube_of_one_plane_has_a_wcs_too(tmp_path, tiles):
    image = galaxy()
    cards = TURNED | {"CTYPE3": "WAVE", "CRVAL3": 5e-7, "CDELT3": 1e-9}
    hdus = [
        extension(image[None, ..., k], name, **cards) for k, name in enumerate("GRIZ")
    ]
    if tiles:
        options = {"compression_type": "GZIP_2", "quantize_level": 0}
        hdus = [fits.CompImageHDU(h.data, h.header, **options) for h in hdus]
    path = save(tmp_path / "a.fits", hdus)
    assert list(flags_of(path)) == ["orientation"]
    np.testing.assert_array_equal(cutouts.read(path).bands["I"], image[..., 2])


@pytest.mark.parametrize("pixscale", [0.168, None])
@pytest.mark.parametrize(
    "cards",
    [
        wcs(0, 0, 0, 0),
        wcs(0.168, 0.168, 0.168, 0.168),
        wcs(-0.168, 0.03, 0, 0.168),
        wcs(-0.168, 0, 0, 0.168) | {"CTYPE2": None},
        wcs(-0.168, 0, 0, 0.168) | {"CUNIT1": "m", "CUNIT2": "m"},
        wcs(-0.168, 0, 0, 0.168) | {"CTYPE1": "RA---FOO", "CTYPE2": "DEC--FOO"},
    ],
)
def test_a_wcs_that_cannot_be_used_is_refused_with_or_without_pixscale(
    tmp_path, pixscale, cards
):
    hdus = extensions(galaxy(), PIXSCALE=pixscale, **cards)
    assert refused(save(tmp_path / "a.fits", hdus)) == "pixel_scale"


def test_what_is_no_wcs_leaves_pixscale_alone(tmp_path):
    cards = wcs(-0.5, 0, 0, 0.7) | {"CTYPE1": "LINEAR", "CTYPE2": "DETECTOR"}
    assert flags_of(save(tmp_path / "a.fits", extensions(galaxy(), **cards))) == {}
    hdus = extensions(galaxy(), PIXSCALE=None, **cards)
    assert refused(save(tmp_path / "b.fits", hdus)) == "pixel_scale"


def test_another_pixel_scale_and_too_few_pixels_name_the_remedy(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy(91), PIXSCALE=0.263))
    assert "resample to 0.168" in flags_of(path)["pixel_scale"]
    path = save(tmp_path / "b.fits", extensions(galaxy(60, 64)))
    assert flags_of(path) == {
        "too_small": "got 60 x 64, need at least 64 x 64 at 0.168 arcsec"
    }


# --- pixels ---------------------------------------------------------------------------


def nan_pixel(image):
    image[20, 30, 1] = np.nan


def inf_pixel(image):
    image[20, 30, 1] = np.inf


def nan_band(image):
    image[..., 2] = np.nan


def zero_band(image):
    image[..., 2] = 0


def constant(image):
    image[:] = 3.5


def nanojansky(image):
    image *= 10**1.76


def zero_point_30(image):
    image *= 10**1.2


def nanomaggies(image):
    image /= 10**1.8


def low_sky(image):
    image -= 2


def high_sky(image):
    image += 26


def masked(image):
    image[:32, :40, 0] = np.nan


def stripe(image):
    image[:, :6] = 0


def inner_stripe(image):
    image[40] = 0


def nan_stripe(image):
    image[:9] = np.nan


def diagonal(image):
    y, x = np.mgrid[:64, :64]
    image[x + y < 15] = 0


def clipped(image):
    y, x = np.mgrid[:64, :64]
    image += 300 * np.exp(-((y - 20) ** 2 + (x - 45) ** 2) / 8)[..., None]
    np.clip(image, None, 100, out=image)


def bright_star(image):
    y, x = np.mgrid[:64, :64]
    image += 500 * np.exp(-((y - 20) ** 2 + (x - 45) ** 2) / 8)[..., None]


@pytest.mark.parametrize(
    ("fault", "flags"),
    [
        (nan_pixel, {"nan_pixel"}),
        (inf_pixel, {"nan_pixel"}),
        (nan_band, {"nan_band"}),
        (zero_band, {"zero_band"}),
        (constant, {"constant_band"}),
        (nanojansky, {"wrong_units"}),
        (zero_point_30, {"wrong_units"}),
        (nanomaggies, {"wrong_units"}),
        (low_sky, {"negative_sky"}),
        (high_sky, {"high_sky"}),
        (masked, {"masked", "nan_pixel"}),
        (stripe, {"stripe"}),
        (inner_stripe, {"stripe"}),
        (nan_stripe, {"nan_pixel", "stripe"}),
        (diagonal, {"blank_patch"}),
        (clipped, {"saturated"}),
        (bright_star, {"saturated"}),
    ],
)
def test_a_broken_image_is_flagged_and_given_no_answer(fault, flags):
    image = galaxy()
    fault(image)
    found = quality.check(image, HSC)
    assert set(found) == flags
    assert quality.is_fatal(found)
    assert quality.check(galaxy(), HSC) == {}


def test_a_bright_core_is_a_galaxy_and_no_saturated_star():
    image = galaxy()
    image += 100 * galaxy() * (galaxy()[..., 3:] > 1)
    assert image.max() > 300 and "saturated" not in quality.check(image, HSC)


def test_the_likely_unit_is_named():
    image = galaxy()
    nanojansky(image)
    assert "MAGZERO = 31.4" in quality.check(image, HSC)["wrong_units"]


def test_a_declared_zero_point_is_converted_exactly(tmp_path):
    image = galaxy()
    path = save(tmp_path / "a.fits", extensions(image * 10**1.76, MAGZERO=31.4))
    prepared = quality.prepare(cutouts.read(path), HSC)
    assert list(prepared.flags) == ["rescaled"] and not quality.is_fatal(prepared.flags)
    np.testing.assert_allclose(prepared.pixels, image, rtol=2e-6, atol=1e-7)


def test_without_a_zero_point_the_surveys_is_assumed_and_said(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy(), MAGZERO=None))
    assert list(flags_of(path)) == ["no_zero_point"]
    image = galaxy()
    nanojansky(image)
    path = save(tmp_path / "b.fits", extensions(image, MAGZERO=None))
    assert set(flags_of(path)) == {"no_zero_point", "wrong_units"}


def test_a_dead_last_row_is_only_a_warning():
    image = galaxy()
    image[-1] = 0
    found = quality.check(image, HSC)
    assert list(found) == ["thin_edge"] and not quality.is_fatal(found)


def test_bands_shifted_against_each_other_are_flagged():
    image = galaxy()
    image[..., 2] = np.roll(image[..., 2], (3, -4), (0, 1))
    found = quality.check(image, HSC)
    assert "(4, -3)" in found["misaligned"] or "(-4, 3)" in found["misaligned"]


@pytest.mark.parametrize("n", [65, 66, 91, 100])
def test_the_crop_is_central_and_says_its_half_pixel(tmp_path, n):
    path = save(tmp_path / "a.fits", extensions(galaxy(n)))
    prepared = quality.prepare(cutouts.read(path), HSC)
    assert prepared.pixels.shape == (64, 64, 4) and prepared.flags == {}
    light = np.clip(prepared.pixels[..., 3] - 0.5, 0, None)
    centre = np.arange(64) - 31.5
    x = (light.sum(0) * centre).sum() / light.sum() * 0.168
    y = (light.sum(1) * centre).sum() / light.sum() * 0.168
    assert prepared.shift == (0.084 if n % 2 else 0)
    assert (x, y) == pytest.approx((prepared.shift, prepared.shift), abs=0.02)


def test_pixels_that_are_cropped_away_do_not_matter(tmp_path):
    image = galaxy(80)
    image[:5] = np.nan
    assert flags_of(save(tmp_path / "a.fits", extensions(image))) == {}


def test_pixel_noise_is_measured_under_a_galaxy():
    noise = quality.pixel_noise(galaxy()[..., 2])
    assert noise == pytest.approx(HSC.sky_sigma[2], rel=0.15)


# --- real images ----------------------------------------------------------------------


def real(folder):
    paths = sorted((DATA / folder).glob("*.fits"))
    if not paths:
        pytest.skip(f"no real cutouts in {DATA / folder}: set LENSJAX_DATA")
    return paths


def test_real_hsc_cutouts_are_all_usable():
    for path in real("hsc/lenses"):
        assert set(flags_of(path)) <= {"thin_edge", "decentred"}, path.name


def test_real_des_cutouts_are_usable_as_des_and_refused_as_hsc():
    noise = tuple(10 ** (0.4 * (30 - m)) for m in (29.0, 28.5, 28.0, 27.3))
    des = HSC._replace(pixel_scale=0.263, zero_point=30.0, sky_sigma=noise)
    for path in real("des/lenses"):
        assert set(flags_of(path, des)) <= {"decentred"}, path.name
        assert list(flags_of(path)) == ["pixel_scale"], path.name


def test_real_single_band_files_bring_psf_and_noise():
    for path in real("slacs/lenses")[:3]:
        cutout = cutouts.read(path, ("F814W",))
        assert cutout.pixel_scale == 0.05 and cutout.zero_point == {"F814W": 25.94}
        assert cutout.psf[""].shape == (15, 15) and cutout.noise[""].shape == (201, 201)
        assert refused(path) == "missing_band"


def test_a_cube_is_refused_as_one(tmp_path):
    image = galaxy()
    for cube in (np.moveaxis(image, -1, 0), image, np.zeros((4, 4, 4), "f4")):
        path = tmp_path / "a.fits"
        fits.PrimaryHDU(np.ascontiguousarray(cube)).writeto(path, overwrite=True)
        assert refused(path) == "cube"


def test_without_magzero_fluxmag0_is_the_zero_point(tmp_path):
    flux = {"MAGZERO": None, "FLUXMAG0": 10 ** (0.4 * 30)}
    path = save(tmp_path / "a.fits", extensions(galaxy() * 10**1.2, **flux))
    assert cutouts.read(path).zero_point["G"] == pytest.approx(30)
    assert set(flags_of(path)) == {"rescaled"}
    for wrong in (0.0, -1.0, 1e30):
        cards = {"MAGZERO": None, "FLUXMAG0": wrong}
        save(tmp_path / "b.fits", extensions(galaxy(), **cards), overwrite=True)
        assert refused(tmp_path / "b.fits") == "zero_point"


@pytest.mark.parametrize("have", [64, 101])
def test_a_header_that_claims_longer_rows_than_there_are_is_refused(tmp_path, have):
    image = galaxy(have)
    path = save(tmp_path / "a.fits", extensions(image))
    raw = path.read_bytes()
    card, lie = (b"NAXIS1  =" + str(n).rjust(21).encode() for n in (have, have + 2))
    assert raw.count(card) == 4
    path.write_bytes(raw.replace(card, lie))
    assert refused(path) in ("bad_header", "truncated")
    # a dead last row and column are not that
    image[-1], image[:, -1] = 0, 0
    assert refused_or_not(save(tmp_path / "b.fits", extensions(image))) is None


def refused_or_not(path):
    try:
        cutouts.read(path)
    except cutouts.CutoutError as error:
        return error.flag
