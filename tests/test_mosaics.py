"""Mosaics of the HUDF: opened where they fit together, and never read whole."""

import gzip
import pickle
import shutil
import tracemalloc
from pathlib import Path

import hudf_mosaic
import numpy as np
import pytest
from astropy.io import fits

from lensjax.catalogue import hudf, wcs
from lensjax.catalogue.hudf import Redshifts, open_mosaics
from lensjax.catalogue.mosaics import ZERO_POINTS

FLAM, PLAM = 1e-19, 7500.0  # of zero point 25.717


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with four small mosaics without galaxies."""
    folder = tmp_path_factory.mktemp("mosaics")
    rng = np.random.default_rng(1)
    for band, name in zip(hudf_mosaic.BANDS, hudf_mosaic.FILTERS, strict=True):
        header = hudf_mosaic.field(60, 0.03).to_header()
        header["FILTER1"], header["FILTER2"] = "CLEAR1L", name
        plane = rng.normal(size=(60, 50)).astype("f4")
        fits.writeto(folder / f"h_udf_wfc_{band}_drz_img.fits", plane, header)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """The same, to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "hudf"))


def path_of(folder, band):
    return folder / f"h_udf_wfc_{band}_drz_img.fits"


def change(folder, band, **cards):
    """Write a mosaic anew with other cards; None removes one."""
    path = path_of(folder, band)
    data, header = fits.getdata(path), fits.getheader(path)
    for key, value in cards.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    fits.writeto(path, data, header, overwrite=True)


def test_four_mosaics_are_opened_in_the_order_of_the_bands(whole):
    mosaics = open_mosaics(whole)
    for band, plane in zip("bviz", mosaics.planes, strict=True):
        pixels = plane.mapped()
        assert type(pixels) is np.memmap and pixels.shape == (60, 50) == plane.shape
        np.testing.assert_array_equal(pixels, fits.getdata(path_of(whole, band)))
    assert abs(mosaics.pixel_scale - 0.03) < 1e-9
    assert mosaics.zero_points == (25.673, 26.486, 25.654, 24.862)
    assert len(mosaics.notes) == 4 and "no PHOTFLAM" in mosaics.notes[0]
    assert len(pickle.dumps(mosaics)) < 20_000  # what a worker process is sent


def test_a_mosaic_is_never_read_whole(tmp_path):
    # as large as the real ones, and sparse but for one window
    size = 10_500
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 2
    header["NAXIS1"], header["NAXIS2"] = size, size
    header.update(hudf_mosaic.field(size, 0.03).to_header())
    head = header.tostring().encode()
    rng = np.random.default_rng(2)
    with open(tmp_path / "mosaic.fits", "wb") as file:
        file.write(head)
        file.truncate(-(-(len(head) + 4 * size**2) // 2880) * 2880)
        for row in range(6000, 6400):
            file.seek(len(head) + 4 * (row * size + 6000))
            file.write(rng.normal(size=400).astype(">f4").tobytes())
    tracemalloc.start()
    mosaics = open_mosaics(dict.fromkeys("bviz", tmp_path / "mosaic.fits"))
    ra, dec = mosaics.wcs.pixel_to_world_values([6200.0], [6200.0])
    entry = Redshifts(np.array(["1"]), ra, dec, np.ones(1))
    with pytest.raises(hudf.Refused, match="noise"):
        hudf.extract(mosaics, entry, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_files_go_by_their_filter_where_the_name_says_nothing(folder):
    for k, band in enumerate("zivb"):
        path_of(folder, band).rename(folder / f"mosaic{k}.fits")
    shutil.copy(folder / "mosaic0.fits", folder / "h_udf_wfc_z_drz_wht.fits")  # weights
    (folder / "notes.fits").write_text("no mosaic")
    named = [plane.path.name for plane in open_mosaics(folder).planes]
    assert named == ["mosaic3.fits", "mosaic2.fits", "mosaic1.fits", "mosaic0.fits"]


def test_files_may_be_given_by_band_or_filter(whole):
    expected = open_mosaics(whole).planes
    by_band = {band: str(path_of(whole, band)) for band in "zvbi"}
    assert open_mosaics(by_band).planes == expected
    by_filter = dict(zip(hudf_mosaic.FILTERS, (p.path for p in expected), strict=True))
    assert open_mosaics(by_filter).planes == expected
    with pytest.raises(ValueError, match="band 'r' is not one of b, v, i, z"):
        open_mosaics(by_band | {"r": "x.fits"})
    with pytest.raises(ValueError, match=r"no mosaic in v \(F606W\)"):
        open_mosaics({b: p for b, p in by_band.items() if b != "v"})
    with pytest.raises(ValueError, match="none.fits"):
        open_mosaics(by_band | {"v": "none.fits"})


def test_hlsp_names_and_an_image_in_an_extension_are_understood(folder):
    for band, name in zip("bviz", hudf_mosaic.FILTERS, strict=True):
        old = path_of(folder, band)
        data, header = fits.getdata(old), fits.getheader(old)
        old.unlink()
        primary = fits.PrimaryHDU()
        primary.header["PHOTFLAM"], primary.header["PHOTPLAM"] = FLAM, PLAM
        image = fits.ImageHDU(data.astype("f8"), header, name="SCI")
        fits.HDUList([primary, image]).writeto(
            folder / f"hlsp_xdf_hst_acswfc-30mas_hudf_{name.lower()}_v1_sci.fits"
        )
    mosaics = open_mosaics(folder)
    assert mosaics.planes[2].mapped().dtype == ">f8"
    np.testing.assert_allclose(mosaics.zero_points, 25.7167, atol=1e-3)


def test_a_missing_or_doubled_band_is_refused_with_what_was_found(folder):
    copy = folder / "old_f775w.fits"
    shutil.copy(path_of(folder, "i"), copy)
    with pytest.raises(ValueError, match="drz_img.fits and old_f775w.fits are both"):
        open_mosaics(folder)
    copy.unlink()
    path_of(folder, "i").unlink()
    with pytest.raises(ValueError, match=r"no mosaic in i \(F775W\) \(found b: h_udf"):
        open_mosaics(folder)
    with pytest.raises(ValueError, match="is no folder"):
        open_mosaics(path_of(folder, "b"))


def test_a_header_of_another_filter_is_refused(folder):
    change(folder, "i", FILTER2="F814W")
    with pytest.raises(ValueError, match="is F775W by name, but F814W by its header"):
        open_mosaics(folder)


def test_bands_that_do_not_fit_together_are_refused(folder):
    change(folder, "z", CRPIX1=31.5)
    with pytest.raises(ValueError, match="z_drz_img.fits: its WCS is 1.0 pixels off"):
        open_mosaics(folder)
    change(folder, "z", CRPIX1=30.6)
    open_mosaics(folder)  # a tenth of a pixel does not matter
    fits.writeto(
        path_of(folder, "z"),
        np.ones((60, 51), "f4"),
        hudf_mosaic.field(60, 0.03).to_header(),
        overwrite=True,
    )
    with pytest.raises(ValueError, match="b 60 x 50, v 60 x 50, i 60 x 50, z 60 x 51"):
        open_mosaics(folder)


def test_a_mosaic_without_wcs_or_of_another_scale_is_refused(folder):
    for band in "bviz":
        change(folder, band, CDELT1=-0.2 / 3600, CDELT2=0.2 / 3600)
    with pytest.raises(ValueError, match="pixels of 0.2 arcsec"):
        open_mosaics(folder)
    change(folder, "v", CTYPE1=None, CTYPE2=None)
    with pytest.raises(ValueError, match="v_drz_img.fits: it has no WCS"):
        open_mosaics(folder)


def linear(**cards):
    """A mosaic's linear part in other words."""
    return dict.fromkeys(("PC1_1", "PC2_2", "CDELT1", "CDELT2")) | cards


A = 0.03 / 3600


@pytest.mark.parametrize(
    "cards",
    [
        linear(CD1_1=-A, CD2_2=A),
        linear(CDELT1=-A, CDELT2=A, CROTA2=0.0),
        linear(PC1_1=-A, PC2_2=A),
        linear(CDELT1=-0.03, CDELT2=0.03, CUNIT1="arcsec", CUNIT2="arcsec")
        | {"CRVAL1": 53.1625 * 3600, "CRVAL2": -27.7914 * 3600},
        linear(CDELT1=A, CDELT2=-A, PC1_1=0.0, PC1_2=1.0, PC2_1=1.0, PC2_2=0.0)
        | {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}
        | {"CRVAL1": -27.7914, "CRVAL2": 53.1625},
    ],
)
def test_a_wcs_may_be_written_in_any_words(folder, cards):
    for band in "vi":  # and is the same as that of the others
        header = fits.getheader(path_of(folder, band))
        known = {k: v for k, v in cards.items() if v is not None or k in header}
        change(folder, band, **known)
    mosaics = open_mosaics(folder)
    assert mosaics.pixel_scale == pytest.approx(0.03, rel=1e-6)
    for band in "bz":
        shutil.copy(path_of(folder, "v"), path_of(folder, band))
        change(folder, band, FILTER2=hudf_mosaic.FILTERS["bviz".index(band)])
    again = open_mosaics(folder)
    place = 53.1641, -27.7901
    np.testing.assert_allclose(
        wcs.to_pixels(again.wcs, *place), wcs.to_pixels(mosaics.wcs, *place), atol=1e-5
    )


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CRVAL1": None}, "its WCS lacks CRVAL1: without it"),
        ({"CRPIX2": None}, "its WCS lacks CRPIX2: without it"),
        ({"CDELT1": 0.0}, "singular"),
        ({"CTYPE2": None}, "Unmatched celestial axes"),
        ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "it has no WCS"),
        ({"CDELT1": A}, "its WCS is .* pixels off"),
        ({"CDELT2": -A}, "its WCS is .* pixels off"),
        ({"CROTA2": 90.0}, "its WCS is .* pixels off"),
        ({"CDELT2": 1.1 * A}, "0.03 x 0.033 arcsec that are not square"),
    ],
)
def test_a_mosaic_whose_wcs_cannot_be_used_is_refused_by_name(folder, cards, words):
    change(folder, "v", **cards)
    with pytest.raises(ValueError, match=f"v_drz_img.fits: .*{words}"):
        open_mosaics(folder)


def test_what_cannot_be_mapped_is_refused_with_the_remedy(folder):
    path = path_of(folder, "v")
    data, header, raw = fits.getdata(path), fits.getheader(path), path.read_bytes()

    def refused(words):
        with pytest.raises(ValueError, match=words) as caught:
            open_mosaics(folder)
        assert "v_drz_img.fits" in str(caught.value)

    fits.CompImageHDU(data, header).writeto(path, overwrite=True)
    refused("compressed or holds scaled integers, .*: write it as 32-bit floats")
    hdu = fits.PrimaryHDU(data, header)
    hdu.scale("int16", bscale=0.001, bzero=0.5)
    hdu.writeto(path, overwrite=True)
    refused("compressed or holds scaled integers")
    path.write_bytes(raw[: len(raw) - 6000])
    refused("bytes: fetch it again")
    path.write_bytes(b"")
    refused("fetch it again")
    path.write_text("<html>please log in</html>")
    refused("fetch it again")
    fits.PrimaryHDU(header=header).writeto(path, overwrite=True)
    refused("holds no image")
    path.unlink()
    path.with_suffix(".fits.gz").write_bytes(gzip.compress(raw))
    refused("gunzip it")


def test_zero_points_of_the_header_go_first_and_a_difference_is_noted(folder):
    known = {b: 10 ** (-0.4 * (m + 2.408)) for b, m in ZERO_POINTS.items()}
    for band, flam in known.items():
        change(folder, band, PHOTFLAM=flam / PLAM**2, PHOTPLAM=PLAM)
    mosaics = open_mosaics(folder)
    np.testing.assert_allclose(mosaics.zero_points, list(ZERO_POINTS.values()))
    assert mosaics.notes == ()
    change(folder, "v", PHOTFLAM=known["v"] / PLAM**2 * 10**-0.04)
    mosaics = open_mosaics(folder)
    np.testing.assert_allclose(mosaics.zero_points[1], 26.586)
    assert len(mosaics.notes) == 1
    assert "v: zero point 26.586 by PHOTFLAM" in mosaics.notes[0]
    change(folder, "v", PHOTFLAM=0.0)
    change(folder, "i", BUNIT="ELECTRONS")
    mosaics = open_mosaics(folder)
    assert mosaics.zero_points[1] == 26.486 and len(mosaics.notes) == 2
    assert "i: BUNIT is 'ELECTRONS', taken for counts per second" in mosaics.notes[1]
    for unit in ("ELECTRONS/S", "counts s-1", "electron s**-1"):
        change(folder, "i", BUNIT=unit)
        assert len(open_mosaics(folder).notes) == 1
