"""HSC archives: which files are one object, what is read of them, what is refused."""

import gzip
import shutil

import hsc_archive as archive
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from lensjax.catalogue import hsc, quality
from lensjax.catalogue.cutouts import CutoutError
from lensjax.survey import HSC

SIDE = 120  # [pixel] 20.2 arcsec, the least without a word on the background


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One galaxy of the archive."""
    folder = tmp_path_factory.mktemp("archive")
    archive.build(folder, 1, seed=1, side=SIDE)
    return folder


@pytest.fixture
def one(whole, tmp_path):
    """Its files, to be broken."""
    shutil.copytree(whole, tmp_path / "one")
    (files,) = hsc.find(tmp_path / "one")
    return files


def edit(path, change, **options):
    with fits.open(path, memmap=False) as hdus:
        hdus = fits.HDUList([hdu.copy() for hdu in hdus])
    hdus = change(hdus) or hdus
    hdus.writeto(path, overwrite=True, **options)


def each(files, change):
    for path in files.bands.values():
        edit(path, change)


def planes(files, margin=4):
    """The crop as the files have it, by indices written down here."""
    n = 64 + 2 * margin
    first = (SIDE - n) // 2
    window = slice(first, first + n)
    images = [fits.getdata(files.bands[b], "IMAGE") for b in "GRIZ"]
    return np.stack([image[window, window] for image in images], -1).astype("f4")


def refused(files, survey=HSC):
    with pytest.raises(CutoutError) as caught:
        hsc.read(files, survey)
    assert caught.value.flag in quality.FATAL
    assert str(caught.value).startswith(files.name + ": ")
    return caught.value.flag, str(caught.value)


# --- a good object --------------------------------------------------------------------


def test_a_good_object_comes_back_as_the_archive_has_it(one):
    galaxy = hsc.read(one, HSC)
    assert galaxy.flags == {} and galaxy.name == one.name
    np.testing.assert_array_equal(galaxy.image, planes(one))
    for array in galaxy.image, galaxy.psf, galaxy.background:
        assert array.dtype == np.float32 and array.dtype.isnative
        assert array.flags.c_contiguous
    assert galaxy.image.shape == (72, 72, 4) and galaxy.psf.shape == (41, 41, 4)
    np.testing.assert_allclose(galaxy.psf.sum((0, 1)), 1, rtol=1e-5)
    for band in range(4):
        expected = archive.star(43, HSC.fwhm[band] / 0.168)[1:-1, 1:-1]
        np.testing.assert_allclose(
            galaxy.psf[..., band], expected / expected.sum(), atol=2e-5
        )


def test_the_margin_is_room_around_the_same_centre(one):
    wide, narrow = (
        hsc.read(one, HSC, margin=6).image,
        hsc.read(one, HSC, margin=0).image,
    )
    assert wide.shape == (76, 76, 4) and narrow.shape == (64, 64, 4)
    np.testing.assert_array_equal(wide[6:-6, 6:-6], narrow)


def test_the_position_is_that_of_the_cutouts_middle(whole, tmp_path):
    (target,) = archive.build(tmp_path / "a", 1, seed=1, side=SIDE)
    (files,) = hsc.find(tmp_path / "a")
    galaxy = hsc.read(files, HSC)
    # by the gnomonic formulae, and by astropy's own route
    assert galaxy.ra == pytest.approx(target.ra, abs=1e-9)
    assert galaxy.dec == pytest.approx(target.dec, abs=1e-9)
    header = fits.getheader(files.bands["I"], "IMAGE")
    sky = WCS(header).pixel_to_world((SIDE - 1) / 2, (SIDE - 1) / 2)
    assert sky.separation(
        type(sky)(galaxy.ra, galaxy.dec, unit=units.deg)
    ).arcsec == pytest.approx(0, abs=1e-4)
    # at most half a pixel from what was ordered, which is more than a third of one off
    assert 0.02 < 3600 * abs(target.dec - 2.2) < 0.084


def test_the_crop_of_an_odd_cutout_begins_at_half_of_what_is_left(tmp_path):
    archive.build(tmp_path, 1, seed=2, side=121)
    (files,) = hsc.find(tmp_path)
    image = fits.getdata(files.bands["I"], "IMAGE")
    galaxy = hsc.read(files, HSC)
    np.testing.assert_array_equal(galaxy.image[..., 2], image[24:96, 24:96])


def test_the_background_is_that_of_the_emptiest_corner_of_all_40_arcsec(tmp_path):
    archive.build(tmp_path, 1, seed=3)
    (files,) = hsc.find(tmp_path)

    def corners(hdus):
        image, mask = hdus["IMAGE"].data, hdus["MASK"].data
        assert image.shape == (238, 238)
        image[:24, :24] = 9.0  # flat, but bright
        image[:24, -24:] += np.linspace(0, 0.02, 24)  # faint: the emptiest
        image[-24:, :24] *= 3
        image[5, 230] = 1e4  # saturated, and no reason to leave the corner
        mask[5, 230] |= 2

    each(files, corners)
    galaxy = hsc.read(files, HSC)
    for band, value in zip("GRIZ", galaxy.background, strict=True):
        image = fits.getdata(files.bands[band], "IMAGE").astype(float)
        lower, upper = image[:24, -24:], image[-24:, -24:]
        lower = np.delete(lower, 5 * 24 + 16)  # the saturated pixel
        best = min((lower, upper.ravel()), key=np.max)
        assert value == pytest.approx(best.std(), rel=1e-5)
        sigma = HSC.sky_sigma["GRIZ".index(band)]
        assert value == pytest.approx(sigma, rel=0.15)


def test_a_cutout_without_sky_in_its_corners_is_refused(one):
    def edges(hdus):
        hdus["IMAGE"].data[:14] = hdus["IMAGE"].data[-14:] = np.nan

    each(one, edges)
    assert refused(one)[0] == "masked"


@pytest.mark.parametrize("side", [118, 76])
def test_a_small_cutout_is_read_with_a_word_on_its_background(tmp_path, side):
    archive.build(tmp_path, 1, seed=4, side=side)
    galaxy = hsc.read(hsc.find(tmp_path)[0], HSC)
    assert list(galaxy.flags) == ["small_cutout"]
    assert f"{side * 0.168:.1f} arcsec" in galaxy.flags["small_cutout"]


def test_a_cutout_without_room_for_the_margin_is_refused(tmp_path):
    archive.build(tmp_path, 1, seed=4, side=70)
    (files,) = hsc.find(tmp_path)
    flag, text = refused(files)
    assert flag == "too_small" and "got 70 x 70, need 72 x 72" in text
    assert hsc.read(files, HSC, margin=3).image.shape == (70, 70, 4)


# --- a band's file --------------------------------------------------------------------


def test_each_file_names_its_own_mask_bits(one):
    """Galaxies are DETECTED: with another file's bits they would be saturated."""
    other = archive.BITS | {"DETECTED": 1, "SAT": 5, "CLIPPED": 14, "REJECTED": 13}
    with fits.open(one.bands["I"], memmap=False) as hdus:
        image = hdus["IMAGE"].data.astype("f4")
    cut = archive.cutout(image, 2, 149.95, 2.2, bits=other)
    assert (cut["MASK"].data[55:65, 55:65] == 2).any()
    cut.writeto(one.bands["I"], overwrite=True)
    assert hsc.read(one, HSC).flags == {}

    def saturate(hdus):
        hdus["MASK"].data[60, 62] |= 1 << other["SAT"]

    edit(one.bands["I"], saturate)
    flag, text = refused(one)
    assert flag == "saturated" and "I has 1 saturated pixels" in text


def no_names(hdus):
    for hdu in hdus[1:]:
        del hdu.header["EXTNAME"], hdu.header["EXTTYPE"]


def backwards(hdus):
    return fits.HDUList([hdus[0], *hdus[:0:-1]])


def types_only(hdus):
    for hdu in hdus[1:]:
        del hdu.header["EXTNAME"]
    return backwards(hdus)


def behind_a_table(hdus):
    rows = fits.BinTableHDU(Table({"a": [1, 2]}), name="ARCHIVE")
    return fits.HDUList([hdus[0], rows, *hdus[1:]])


def nameless_without_mask(hdus):
    no_names(hdus)
    del hdus[2]


def nameless_mask_first(hdus):
    no_names(hdus)
    return fits.HDUList([hdus[0], hdus[2], hdus[1], hdus[3]])


def nameless_bits(hdus):
    no_names(hdus)
    for key in [key for key in hdus[2].header if key.startswith("MP_")]:
        del hdus[2].header[key]


def in_the_primary(hdus):
    header = hdus["IMAGE"].header.copy()
    del header["XTENSION"]
    image = fits.PrimaryHDU(hdus["IMAGE"].data, header)
    image.header["FLUXMAG0"] = archive.FLUXMAG0
    return fits.HDUList([image, *hdus[2:]])


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (no_names, []),
        (types_only, []),
        (backwards, []),
        (behind_a_table, []),
        (nameless_mask_first, []),
        (nameless_without_mask, ["no_mask"]),
        (nameless_bits, ["no_mask"]),
        (in_the_primary, []),
        (lambda hdus: fits.HDUList([hdus[0], hdus[1], hdus[3]]), ["no_mask"]),
        (lambda hdus: fits.HDUList(hdus[:3]), ["no_variance"]),
        (lambda hdus: fits.HDUList(hdus[:2]), ["no_mask", "no_variance"]),
    ],
)
def test_planes_are_found_wherever_they_stand(one, change, flags):
    expected = planes(one)
    each(one, change)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == flags
    np.testing.assert_array_equal(galaxy.image, expected)


@pytest.mark.parametrize("dtype", ["i4", "f4"])
def test_a_nameless_mask_is_used_as_one(one, dtype):
    def saturate(hdus):
        no_names(hdus)
        mask = hdus[2].data
        mask[60, 60] |= 2
        hdus[2].data = mask.astype(dtype)

    each(one, saturate)
    assert refused(one)[0] == "saturated"


def test_a_file_without_its_image_or_with_two_is_refused(one):
    edit(one.bands["R"], lambda hdus: fits.HDUList([hdus[0], *hdus[2:]]))
    flag, text = refused(one)
    assert flag == "missing_band" and "found MASK, VARIANCE" in text
    assert one.bands["R"].name in text and "image = true" in text
    edit(one.bands["G"], lambda hdus: fits.HDUList([*hdus, hdus["IMAGE"].copy()]))
    assert refused(one)[0] == "duplicate_band"


def as_doubles(hdus):
    hdus["IMAGE"].data = hdus["IMAGE"].data.astype(">f8")


def as_little_integers(hdus):
    image = hdus["IMAGE"].data.astype("f8")
    hdu = fits.ImageHDU(image, hdus["IMAGE"].header, do_not_scale_image_data=True)
    hdu.scale("int16", bscale=0.004)
    return fits.HDUList([hdus[0], hdu, *hdus[2:]])


def as_nameless_integers(hdus):
    no_names(hdus)
    hdus[1].header["EXTNAME"] = "IMAGE"
    hdus = as_little_integers(hdus)
    del hdus[1].header["EXTNAME"]
    return hdus


def tiled(hdus):
    options = {"compression_type": "RICE_1", "quantize_level": 32}
    return fits.HDUList(
        [hdus[0], *(fits.CompImageHDU(h.data, h.header, **options) for h in hdus[1:])]
    )


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (as_doubles, 0),
        (as_little_integers, 0.0021),
        (as_nameless_integers, 0.0021),
        (tiled, 0.01),
    ],
)
def test_numbers_may_be_stored_in_any_way(one, change, tolerance):
    expected = planes(one)
    each(one, change)
    galaxy = hsc.read(one, HSC)
    assert galaxy.flags == {} and galaxy.image.dtype == np.float32
    np.testing.assert_allclose(galaxy.image, expected, rtol=1e-6, atol=tolerance)


def test_a_tiled_mask_keeps_its_bits(one):
    def saturate(hdus):
        hdus["MASK"].data[60, 60] |= 2
        return tiled(hdus)

    each(one, saturate)
    assert refused(one)[0] == "saturated"


def test_blank_integers_are_missing_pixels(one):
    def blank(hdus):
        hdus = as_little_integers(hdus)
        hdus[1].data[60, 60] = -32768
        hdus[1].header["BLANK"] = -32768
        return hdus

    edit(one.bands["Z"], blank)
    assert refused(one)[0] == "nan_pixel"


@pytest.mark.parametrize(
    ("damage", "flag"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: b"", "empty_file"),
        (lambda raw: b"\n<!DOCTYPE html><html>Log in</html>", "html"),
        (lambda raw: gzip.compress(raw)[:-999], "truncated"),
        (lambda raw: b"PK" + raw, "not_fits"),
        (lambda raw: None, "missing_file"),
    ],
)
@pytest.mark.parametrize("kind", ["bands", "psf"])
def test_a_damaged_file_is_named(one, kind, damage, flag):
    path = getattr(one, kind)["R"]
    raw = damage(path.read_bytes())
    path.unlink()
    if raw is not None:
        path.write_bytes(raw)
    found, text = refused(one)
    assert found == flag and path.name in text


def test_a_flipped_byte_fails_the_checksum_and_gzip_is_unpacked(one):
    path = one.bands["R"]
    edit(path, lambda hdus: None, checksum=True)
    assert hsc.read(one, HSC).flags == {}
    raw = bytearray(path.read_bytes())
    path.write_bytes(gzip.compress(raw))
    assert hsc.read(one, HSC).flags == {}
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert refused(one)[0] == "checksum"


def card(name, value, hdu=0):
    def change(hdus):
        if value is None:
            del hdus[hdu].header[name]
        else:
            hdus[hdu].header[name] = value

    return change


def test_counts_of_another_zero_point_are_converted(one):
    expected = planes(one)

    def thirty(hdus):
        hdus["IMAGE"].data *= np.float32(10**1.2)
        hdus[0].header["FLUXMAG0"] = 10**12.0

    each(one, thirty)
    galaxy = hsc.read(one, HSC)
    assert set(galaxy.flags) == {"rescaled"} and "30" in galaxy.flags["rescaled"]
    np.testing.assert_allclose(galaxy.image, expected, rtol=1e-6)


def test_without_fluxmag0_the_surveys_zero_point_is_assumed_and_said(one):
    edit(one.bands["G"], card("FLUXMAG0", None))
    assert list(hsc.read(one, HSC).flags) == ["no_zero_point"]
    edit(one.bands["G"], card("FLUXMAG0", archive.FLUXMAG0, 1))  # in the image's header
    assert hsc.read(one, HSC).flags == {}


@pytest.mark.parametrize("value", [0.0, -5.0, "NaN", 0.5, 1e30, True])
def test_a_fluxmag0_that_is_no_flux_is_refused(one, value):
    edit(one.bands["G"], card("FLUXMAG0", value))
    assert refused(one)[0] == "zero_point"


def test_nanojanskys_under_the_card_of_counts_are_recognised(one):
    def nanojansky(hdus):
        hdus["IMAGE"].data *= np.float32(10**1.76)

    each(one, nanojansky)
    flag, text = refused(one)
    assert flag == "wrong_units" and "nJy" in text and "FLUXMAG0" in text


def test_a_file_whose_filter_is_another_band_is_refused(one):
    edit(one.bands["G"], card("FILTER", "HSC-R"))
    assert refused(one)[0] == "band_conflict"
    edit(one.bands["G"], card("FILTER", "HSC-G"))
    assert hsc.read(one, HSC).flags == {}


def test_other_pixels_are_refused_and_a_turned_image_is_flagged(one):
    edit(one.bands["R"], card("CD1_1", -0.2 / 3600, 1))
    edit(one.bands["R"], card("CD2_2", 0.2 / 3600, 1))
    flag, text = refused(one)
    assert flag == "pixel_scale" and "0.2 arcsec" in text

    def mirror(hdus):  # about the cutout's middle
        header = hdus["IMAGE"].header
        header["CD1_1"], header["CD2_2"] = 0.168 / 3600, 0.168 / 3600
        header["CRPIX1"] = SIDE + 1 - header["CRPIX1"]

    each(one, mirror)
    assert "mirrored" in hsc.read(one, HSC).flags["orientation"]


# --- masks ----------------------------------------------------------------------------


def masked(name, rows, columns, plane="MASK"):
    def change(hdus):
        if plane == "MASK":
            hdus["MASK"].data[rows, columns] |= 1 << archive.BITS[name]
        else:
            hdus["VARIANCE"].data[rows, columns] = name

    return change


FAR, HALF = slice(30, 33), slice(0, 60)
ALL, MIDDLE = slice(None), slice(58, 62)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (masked("SAT", MIDDLE, MIDDLE), "saturated"),
        (masked("BAD", MIDDLE, MIDDLE), "masked"),
        (masked("NO_DATA", HALF, ALL), "masked"),
        (masked("UNMASKEDNAN", ALL, HALF), "masked"),
        (masked(-1.0, HALF, ALL, "VARIANCE"), "masked"),
        (masked(np.nan, HALF, ALL, "VARIANCE"), "masked"),
    ],
)
def test_bad_pixels_in_the_lens_or_in_many_places_are_refused(one, change, flag):
    edit(one.bands["R"], change)
    found, text = refused(one)
    assert found == flag and "R " in text


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (masked("SAT", FAR, FAR), {}),
        (masked("CR", FAR, FAR), {}),
        (masked("CROSSTALK", ALL, ALL), {}),
        (masked("CLIPPED", ALL, slice(0, 30)), {"suspect_pixels": "R CLIPPED 8%"}),
        (masked("BRIGHT_OBJECT", ALL, ALL), {"suspect_pixels": "R BRIGHT_OBJECT 100%"}),
        (masked(-1.0, FAR, FAR, "VARIANCE"), {"bad_variance": "R 9 pixels"}),
        (masked(0.0, MIDDLE, MIDDLE, "VARIANCE"), {"bad_variance": "R 16 pixels"}),
    ],
)
def test_few_bad_and_many_doubtful_pixels_are_at_most_a_warning(one, change, flags):
    edit(one.bands["R"], change)
    assert hsc.read(one, HSC).flags == flags


def test_doubtful_pixels_of_two_bands_are_both_told(one):
    for band in "GZ":
        edit(one.bands[band], masked("INTRP", HALF, ALL))
    text = hsc.read(one, HSC).flags["suspect_pixels"]
    assert text == "G INTRP 50%; Z INTRP 50%"


def test_a_mask_that_does_not_name_its_bits_is_not_used(one):
    def nameless(hdus):
        hdus["MASK"].data[:] = 2
        for key in [k for k in hdus["MASK"].header if k.startswith("MP_")]:
            del hdus["MASK"].header[key]

    edit(one.bands["I"], nameless)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["no_mask"] and "I " in galaxy.flags["no_mask"]


def test_planes_of_different_shape_are_refused(one):
    def smaller(hdus):
        hdus["MASK"].data = hdus["MASK"].data[:-1]

    edit(one.bands["I"], smaller)
    assert refused(one)[0] == "band_shape"


# --- the same pixels of the sky -------------------------------------------------------


def test_bands_cut_at_other_whole_pixels_are_aligned(one):
    expected = planes(one)

    def cut(left, low, right, top):
        def change(hdus):
            for hdu in hdus[1:]:
                hdu.data = hdu.data[low : SIDE - top, left : SIDE - right].copy()
                hdu.header["CRPIX1"] -= left
                hdu.header["CRPIX2"] -= low

        return change

    edit(one.bands["G"], cut(1, 0, 0, 2))
    edit(one.bands["Z"], cut(3, 2, 0, 0))
    galaxy = hsc.read(one, HSC)
    assert galaxy.flags == {}
    np.testing.assert_array_equal(galaxy.image, expected)


def shifted(dx):
    def change(hdus):
        hdus["IMAGE"].header["CRPIX1"] += dx

    return change


def test_bands_off_by_part_of_a_pixel_are_flagged(one):
    edit(one.bands["R"], shifted(0.4))
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["shifted_band"]
    assert "R by (0.40, " in galaxy.flags["shifted_band"]


@pytest.mark.parametrize(
    ("dx", "flag"), [(26, "too_small"), (400, "other_place"), (9e5, "pixel_scale")]
)
def test_a_band_of_another_place_is_refused(one, dx, flag):
    edit(one.bands["R"], shifted(dx))
    assert refused(one)[0] == flag


def test_a_band_from_the_other_side_of_the_sky_is_refused(one):
    edit(one.bands["R"], card("CRVAL1", 330.1, 1))
    edit(one.bands["R"], card("CRVAL2", -2.3, 1))
    assert refused(one)[0] == "other_place"


def test_without_a_wcs_bands_of_one_shape_are_taken_as_they_are(one):
    expected = planes(one)

    def no_wcs(hdus):
        for key in ("CTYPE1", "CTYPE2"):
            del hdus["IMAGE"].header[key]

    each(one, no_wcs)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["no_wcs"]
    assert np.isnan(galaxy.ra) and np.isnan(galaxy.dec)
    np.testing.assert_array_equal(galaxy.image, expected)

    def smaller(hdus):
        for hdu in hdus[1:]:
            hdu.data = hdu.data[:-1].copy()

    edit(one.bands["R"], smaller)
    assert refused(one)[0] == "band_shape"


def test_pixels_tell_whether_bands_are_shifted_whatever_the_wcs_says(one):
    def roll(hdus):
        hdus["IMAGE"].data = np.roll(hdus["IMAGE"].data, 4, 0)

    edit(one.bands["R"], roll)
    flag, text = refused(one)
    assert flag == "misaligned" and "R against I by (0, 4) pixels" in text
    for band in "GRIZ":
        edit(one.bands[band], card("CTYPE1", "LINEAR", 1))
        edit(one.bands[band], card("CTYPE2", "LINEAR", 1))
    assert refused(one)[0] == "misaligned"


# --- the same orientation -------------------------------------------------------------

OTHERS = [how for how in archive.TURNS if how != "as it is"]
ODD_STAR = archive.profile(41, 3.0, 0.4, 0.4, 0.0, 0.0, 1.5).astype("f4")


def restore(files, band, how, planes=("IMAGE", "MASK", "VARIANCE", "PSF"), wcs=True):
    """Store a band's planes in another way; without `wcs` the image alone has one."""

    def change(hdus):
        for k, hdu in enumerate(hdus[1:], start=1):
            if not wcs and hdu.name != "IMAGE":
                for key in ("CTYPE1", "CTYPE2", "CD1_1", "CD2_2"):
                    del hdu.header[key]
            if hdu.name in planes:
                hdus[k] = archive.stored(hdu, how)

    edit(files.bands[band], change)
    if "PSF" in planes:
        with fits.open(files.psf[band], memmap=False) as hdus:
            psf = archive.stored(hdus[0], how)
        psf.writeto(files.psf[band], overwrite=True)


def ill(hdus):
    """Bad, suspect and negative pixels that no turn leaves where they are."""
    hdus["MASK"].data[45, 30:40] |= 1 << archive.BITS["SAT"]
    hdus["MASK"].data[:, 30:36] |= 1 << archive.BITS["CLIPPED"]
    hdus["VARIANCE"].data[70, 40:43] = -1


def assert_same(galaxy, expected):
    for name in ("ra", "dec", "image", "background"):
        np.testing.assert_allclose(
            getattr(galaxy, name), getattr(expected, name), rtol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(galaxy.psf, expected.psf, atol=1e-6)
    for flag in ("suspect_pixels", "bad_variance"):
        assert galaxy.flags[flag] == expected.flags[flag]


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("odd", ["R", "I", "GRI"])
@pytest.mark.parametrize("wcs", [True, False])
def test_bands_stored_otherwise_are_turned_with_all_that_is_theirs(one, how, odd, wcs):
    for band in "GRIZ":
        edit(one.bands[band], ill)
        kernel(one, ODD_STAR, band)
    expected = hsc.read(one, HSC)
    for band in odd:
        restore(one, band, how, wcs=wcs)
    galaxy = hsc.read(one, HSC)
    assert_same(galaxy, expected)
    assert set(galaxy.flags) == {*expected.flags, "aligned"}
    assert all(f"{band} " in galaxy.flags["aligned"] for band in odd)


def test_planes_go_by_their_own_wcs_where_they_have_one(one):
    edit(one.bands["R"], ill)
    kernel(one, ODD_STAR, "R", **archive.wcs(150.0, 2.0, 41))
    expected = hsc.read(one, HSC)
    for planes in (["IMAGE"], ["MASK", "PSF"]):
        restore(one, "R", "a quarter left", planes)
        assert_same(hsc.read(one, HSC), expected)


def test_a_band_that_is_turned_and_cut_elsewhere_comes_to_the_same_pixels(one):
    def cut(hdus):
        for k, hdu in enumerate(hdus[1:], start=1):
            hdu.data = hdu.data[4:-1, 3:].copy()
            hdu.header["CRPIX1"] -= 3
            hdu.header["CRPIX2"] -= 4
            hdus[k] = archive.stored(hdu, "transposed")

    image = np.stack([fits.getdata(one.bands[b], "IMAGE") for b in "GRIZ"], -1)
    for band in "IZ":
        edit(one.bands[band], cut)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["aligned", "small_cutout"]
    # the crop is about the middle of what is left of the detection band
    rows, columns = slice(21 + 4, 21 + 4 + 72), slice(22 + 3, 22 + 3 + 72)
    np.testing.assert_array_equal(galaxy.image, image[rows, columns])


@pytest.mark.parametrize("how", OTHERS)
def test_bands_that_are_all_stored_alike_stay_so_and_are_flagged(one, how):
    expected = planes(one)
    for band in "GRIZ":
        restore(one, band, how)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["orientation"]
    for k in range(4):
        turned = archive.TURNS[how][0](expected[..., k])
        np.testing.assert_array_equal(galaxy.image[..., k], turned)


@pytest.mark.parametrize("degrees", [2, 45, 135])
def test_a_band_between_quarter_turns_is_refused(one, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def rotate(hdus):
        for hdu in hdus[1:]:
            cards = zip(
                ("CD1_1", "CD1_2", "CD2_1", "CD2_2"), (-c, s, s, c), strict=True
            )
            hdu.header.update({key: v * 0.168 / 3600 for key, v in cards})
            hdu.header.update(CRVAL1=149.95, CRVAL2=2.2, CRPIX1=60.5, CRPIX2=60.5)

    edit(one.bands["R"], rotate)
    flag, text = refused(one)
    assert flag == "band_grid" and "band R" in text and "pixels of I" in text


@pytest.mark.parametrize("bands", ["R", "I", "GRZ"])
def test_a_band_without_wcs_beside_others_is_refused(one, bands):
    for band in bands:
        edit(one.bands[band], card("CTYPE1", "LINEAR", 1))
        edit(one.bands[band], card("CTYPE2", "LINEAR", 1))
    flag, text = refused(one)
    assert flag == "band_grid" and f"band {', '.join(bands)} has no WCS" in text


def test_a_wcs_in_the_primary_header_counts(one):
    expected = hsc.read(one, HSC)

    def move(hdus):
        for hdu in hdus[1:]:
            cards = {
                k: hdu.header.pop(k)
                for k in archive.wcs(150, 2, SIDE)
                if k in hdu.header
            }
            hdu.header["INHERIT"] = True
        hdus[0].header.update(cards)

    for band in "GR":
        edit(one.bands[band], move)
    galaxy = hsc.read(one, HSC)
    assert galaxy.flags == {} and galaxy.ra == expected.ra
    np.testing.assert_array_equal(galaxy.image, expected.image)


def test_galactic_axes_give_equatorial_positions(one):
    expected = hsc.read(one, HSC)
    place = SkyCoord(expected.ra, expected.dec, unit="deg").galactic

    def galactic(hdus):
        cards = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}
        cards |= {"CRVAL1": place.l.deg, "CRVAL2": place.b.deg}
        for hdu in hdus[1:]:
            hdu.header.update(cards, CRPIX1=60.5, CRPIX2=60.5)

    each(one, galactic)
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["orientation"]
    assert galaxy.ra == pytest.approx(expected.ra, abs=1e-8)
    assert galaxy.dec == pytest.approx(expected.dec, abs=1e-8)


def test_a_wcs_without_position_and_one_that_pixscale_contradicts(one):
    each(one, card("CRVAL2", None, 1))
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["no_wcs"] and "CRVAL2" in galaxy.flags["no_wcs"]
    assert np.isnan(galaxy.ra) and np.isnan(galaxy.dec)
    edit(one.bands["R"], card("PIXSCALE", 0.2, 0))
    flag, text = refused(one)
    assert flag == "pixel_scale" and "PIXSCALE = 0.2, but the WCS has 0.168" in text
    edit(one.bands["R"], card("PIXSCALE", 0.168, 0))
    edit(one.bands["R"], card("CD1_1", 0.0, 1))
    flag, text = refused(one)
    assert flag == "pixel_scale" and "not square" in text


# --- PSFs -----------------------------------------------------------------------------


def kernel(files, value, band="I", **cards):
    path = files.psf[band]
    fits.PrimaryHDU(value, fits.Header(cards)).writeto(path, overwrite=True)


@pytest.mark.parametrize("shape", [(41, 41), (43, 41), (25, 25), (57, 59)])
def test_psfs_come_centred_normalised_and_in_one_size(one, shape):
    side = max(shape)
    star = archive.star(side, HSC.fwhm[2] / 0.168, 0.4, -0.3)
    cut_y, cut_x = (side - shape[0]) // 2, (side - shape[1]) // 2
    kernel(one, star[cut_y : side - cut_y, cut_x : side - cut_x] * 0.99)
    galaxy = hsc.read(one, HSC)
    assert galaxy.flags == {}
    expected = archive.star(41, HSC.fwhm[2] / 0.168)
    np.testing.assert_allclose(galaxy.psf[..., 2], expected, atol=0.02 * expected.max())
    assert galaxy.psf[..., 2].sum() == pytest.approx(1, abs=1e-5)
    offset = np.arange(41) - 20
    core = np.clip(galaxy.psf[..., 2] - 0.1 * expected.max(), 0, None)
    assert abs((core.sum(0) * offset).sum() / core.sum()) < 0.02
    assert abs((core.sum(1) * offset).sum() / core.sum()) < 0.02


def test_a_psf_whose_sum_is_not_one_is_normalised_and_said(one):
    kernel(one, 0.93 * archive.star(41, 3.6))
    galaxy = hsc.read(one, HSC)
    assert list(galaxy.flags) == ["psf_sum"] and "0.93" in galaxy.flags["psf_sum"]
    assert galaxy.psf[..., 2].sum() == pytest.approx(1, abs=1e-5)


STAR = archive.star(41, 3.6)
SCALE_CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CD1_1": -0.1 / 3600,
    "CD2_2": 0.1 / 3600,
}


@pytest.mark.parametrize(
    ("value", "cards", "words"),
    [
        (STAR[:-1], {}, "40 x 41: must be odd"),
        (STAR[12:-12, 12:-12], {}, "17 x 17"),
        (np.where(STAR > 0.01, np.nan, STAR), {}, "not finite"),
        (-STAR, {}, "without flux"),
        (0 * STAR, {}, "without flux"),
        (archive.star(41, 3.6, 3.0), {}, r"\(3, 0\) pixels off the middle"),
        (None, {}, "no image"),
        (STAR, SCALE_CARDS, "0.1 arcsec per pixel"),
        (STAR, {"PIXSCALE": 0.084}, "0.084 arcsec per pixel"),
    ],
)
def test_what_is_no_psf_is_refused_with_the_remedy(one, value, cards, words):
    kernel(one, value, **cards)
    with pytest.raises(CutoutError, match=words) as caught:
        hsc.read(one, HSC)
    assert caught.value.flag == "bad_psf" and one.psf["I"].name in str(caught.value)


def test_missing_bands_and_psfs_are_named(one):
    psf = {band: path for band, path in one.psf.items() if band not in "GZ"}
    flag, text = refused(one._replace(psf=psf))
    assert flag == "missing_psf" and "G, Z" in text
    bands = {band: path for band, path in one.bands.items() if band != "R"}
    flag, text = refused(one._replace(bands=bands))
    assert flag == "missing_band" and "no file for R" in text


def test_the_psf_of_another_place_is_refused(one):
    path = one.psf["I"]
    other = path.with_name(path.name.replace("-2.20", "--2.20"))
    path.rename(other)
    flag, text = refused(one._replace(psf=one.psf | {"I": other}))
    assert flag == "other_place" and other.name in text


def test_the_place_of_a_psf_is_an_angle_on_the_sky():
    name = "2-psf-calexp-pdr2_wide-HSC-I-9813-4,5-{}-75.00000.fits"
    hsc._check_place(name.format("150.05000"), 150.0, 75.0)  # 47 arcsec
    hsc._check_place(name.format("0.02500"), 359.99, 75.0)
    with pytest.raises(CutoutError, match="93 arcsec off"):
        hsc._check_place(name.format("150.10000"), 150.0, 75.0)
