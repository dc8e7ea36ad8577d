"""Catalogues from plain folders: what is read, what is left out, what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from lensjax.catalogue import _plain_tables, plain, split
from lensjax.survey import DES, EUCLID, HSC

DATA = Path(os.environ.get("LENSJAX_DATA", Path(__file__).parents[2] / "shared/data"))
SURVEY = HSC._replace(image_size=32)


def save(path, planes, scale, zero_point=27.0):
    hdus = [fits.PrimaryHDU()]
    for name, plane in planes.items():
        header = fits.Header([("PIXSCALE", scale), ("MAGZERO", zero_point)])
        hdus.append(fits.ImageHDU(np.asarray(plane, np.float32), header, name=name))
    fits.HDUList(hdus).writeto(path, overwrite=True)


def gaussian(n, sigma, x=0.0, y=0.0):
    axis = np.arange(n) - n // 2
    return np.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2))


def lens_planes(seed):
    rng = np.random.default_rng(seed)
    light = 5 * gaussian(32, 4.0)
    return {
        band: k * light + s * rng.normal(size=(32, 32))
        for band, k, s in zip("GRIZ", (0.2, 0.5, 0.8, 1), HSC.sky_sigma, strict=True)
    }


def source_plane(seed, x=0.0, y=0.0, n=41):
    rng = np.random.default_rng(seed)
    return gaussian(n, 3.0, x, y) + 0.01 * rng.normal(size=(n, n))


def psf_planes(x=0.0, y=0.0, n=21):
    return {band: 3 * gaussian(n, 1.8, x, y) for band in "GRIZ"}


LENSES = """id,file,z,vdisp_kms
007,lenses/a.fits,0.4,250
b,lenses/b.fits,,
c,lenses/c.fits,0.6,850
"""
SOURCES = """id,file,z,hsc_g,hsc_r,hsc_i,hsc_z
s1,sources/s1.fits,1.5,25.0,24.8,24.5,24.4
s2,sources/s2.fits,2.5,24.0,24.0,23.9,23.9
"""

NEVER = ["-99", "99", "999", "-9999", "-9.999", "99.99", "1e20", "-1e30", "0", "inf"]
LENS_HEAD, *LENS_ROWS = LENSES.splitlines()
SOURCE_HEAD, *SOURCE_ROWS = SOURCES.splitlines()


def table_of(path, head, *rows):
    path.write_text("\n".join([head, *rows]))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three lenses, two sources and two PSFs, all good."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("lenses", "sources", "psfs"):
        (folder / name).mkdir()
    for k, name in enumerate("abc"):
        save(folder / f"lenses/{name}.fits", lens_planes(k), 0.168)
    save(folder / "sources/s1.fits", {"F814W": source_plane(1)}, 0.03)
    save(folder / "sources/s2.fits", {"F814W": source_plane(2, 2, -3)}, 0.03)
    save(folder / "psfs/one.fits", psf_planes(), 0.168)
    save(folder / "psfs/two.fits", psf_planes(0.3, -0.2, 25), 0.168)
    (folder / "lenses.csv").write_text(LENSES)
    (folder / "sources.csv").write_text(SOURCES)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """The same, to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture(scope="module")
def good(whole):
    return plain.read(whole, SURVEY)


def psfs_of(folder):
    return plain._read_psfs(folder / "psfs", SURVEY, [])


def sources_of(folder):
    notes = []
    return *plain._read_sources(folder / "sources.csv", SURVEY, notes), notes


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_good_folder_is_read_as_written(whole, good):
    catalogue, listing = good
    assert listing.lens_id == ("007", "b", "c")  # text: no zeros are lost
    assert listing.source_id == ("s1", "s2")
    assert listing.source_pixel_scale == 0.03 and listing.origin == str(whole)
    for k in range(3):
        planes = np.stack(list(lens_planes(k).values()), -1)
        np.testing.assert_allclose(catalogue.lenses.image[k], planes, atol=1e-6)
    np.testing.assert_allclose(catalogue.sources.z, [1.5, 2.5])
    assert all(np.isfinite(catalogue.lenses.background).all(1))


def test_unknown_redshifts_and_impossible_dispersions_are_unknown(good):
    catalogue, listing = good
    np.testing.assert_allclose(catalogue.lenses.z, [0.4, np.nan, 0.6])
    np.testing.assert_allclose(catalogue.lenses.vdisp, [250.0, np.nan, np.nan])
    assert any("1 velocity dispersions outside" in note for note in listing.notes)


@pytest.mark.parametrize("value", ["0", "-1", "850", "nan", ""])
def test_a_failed_fit_is_no_dispersion(tmp_path, value):
    notes = []
    path = table_of(tmp_path / "l.csv", LENS_HEAD, f"a,a.fits,0.4,{value}")
    rows = _plain_tables.lenses(path, notes)
    assert np.isnan(rows.vdisp).all() and rows.z.tolist() == [0.4]
    assert any("taken for unknown" in note for note in notes) == (
        value not in ("", "nan")
    )


def test_sources_have_their_magnitudes_and_their_brightest_pixel_in_the_middle(good):
    sources = good[0].sources
    image = np.asarray(sources.image)
    flux = image.sum((1, 2)) * np.asarray(sources.flux)
    mags = [[25.0, 24.8, 24.5, 24.4], [24.0, 24.0, 23.9, 23.9]]
    np.testing.assert_allclose(27.0 - 2.5 * np.log10(flux), mags, atol=1e-4)
    np.testing.assert_allclose(sources.mag, mags, atol=1e-4)
    middle = image.shape[1] // 2
    assert image.shape[1] % 2 == 1
    y, x = np.indices(image.shape[1:3]) - middle
    for stamp in image[..., 0]:
        assert abs((stamp * x).sum()) < 0.5 and abs((stamp * y).sum()) < 0.5


def test_psfs_are_centred_normalised_and_cut_to_one_size(good):
    psfs = np.asarray(good[0].psfs, float)
    assert psfs.shape == (2, 21, 21, 4)
    np.testing.assert_allclose(psfs.sum((1, 2)), 1, rtol=1e-5)
    expected = gaussian(21, 1.8) / gaussian(21, 1.8).sum()
    for kernel in psfs:
        np.testing.assert_allclose(kernel[..., 0], expected, atol=1e-3 * expected.max())


def test_each_lens_keeps_the_psf_that_its_id_gives_it(good):
    assert set(np.asarray(good[0].lenses.psf)) <= {0, 1}
    assert any("one of 2 PSFs by its id" in note for note in good[1].notes)
    assert plain._psf_of("007", "", ["one", "two"]) == good[0].lenses.psf[0]


def test_the_same_folder_has_the_same_fingerprint_and_other_redshifts_another(folder):
    first = plain.read(folder, SURVEY)[1].fingerprint
    assert first == plain.read(folder, SURVEY)[1].fingerprint
    edit(folder / "lenses.csv", "0.4,250", "0.5,250")
    assert first != plain.read(folder, SURVEY)[1].fingerprint


def test_broken_objects_are_left_out_and_named(folder):
    raw = (folder / "lenses/b.fits").read_bytes()
    (folder / "lenses/b.fits").write_bytes(raw[: len(raw) // 2])
    (folder / "sources/s1.fits").write_text("<html>please log in</html>")
    catalogue, listing = plain.read(folder, SURVEY)
    assert listing.lens_id == ("007", "c") and listing.source_id == ("s2",)
    np.testing.assert_allclose(catalogue.lenses.z, [0.4, 0.6])
    said = "\n".join(listing.notes)
    assert "lens b is left out: b.fits" in said
    assert "source s1 is left out: s1.fits" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("s1.fits,1.5", "s1.fits,-9", "redshift is -9"),
        ("s1.fits,1.5", "s1.fits,", "redshift is"),
        ("1.5,25.0", "1.5,", "no HSC magnitudes"),
        ("sources/s1", "sources/none", "none.fits"),
    ],
)
def test_a_source_without_what_it_needs_is_left_out(folder, old, new, words):
    edit(folder / "sources.csv", old, new)
    ids, sources, _, notes = sources_of(folder)
    assert ids == ("s2",) and len(sources.z) == 1
    assert len(notes) == 1 and "source s1 is left out" in notes[0] and words in notes[0]


# --- tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", NEVER)
def test_a_placeholder_for_a_magnitude_leaves_the_source_out(tmp_path, value):
    for k, name in enumerate(("hsc_g", "hsc_r", "hsc_i", "hsc_z")):
        cells = SOURCE_ROWS[0].split(",")
        cells[3 + k] = value
        path = table_of(
            tmp_path / "s.csv", SOURCE_HEAD, ",".join(cells), *SOURCE_ROWS[1:]
        )
        for survey in (HSC, DES):
            rows = _plain_tables.sources(path, survey, [])
            why = f"it has no {survey.name} magnitudes to colour it with: {name} is "
            assert rows.lacks[0].startswith(why) and rows.lacks[1] == ""
            assert np.isnan(rows.mag[0, k]) and np.isfinite(rows.mag[1]).all()


@pytest.mark.parametrize("value", NEVER)
def test_a_placeholder_for_a_sources_redshift_leaves_it_out(tmp_path, value):
    bad = SOURCE_ROWS[0].replace("1.5", value)
    path = table_of(tmp_path / "s.csv", SOURCE_HEAD, bad, SOURCE_ROWS[1])
    assert _plain_tables.sources(path, HSC, []).lacks == [
        f"its redshift is {float(value):g}",
        "",
    ]


@pytest.mark.parametrize("value", NEVER)
def test_a_placeholder_of_a_lens_is_unknown_and_noted(tmp_path, value):
    notes = []
    first = f"a,a.fits,{value},{value}"
    path = table_of(tmp_path / "l.csv", LENS_HEAD, first, "b,b.fits,0.5,250")
    rows = _plain_tables.lenses(path, notes)
    np.testing.assert_array_equal(rows.z, [np.nan, 0.5])
    np.testing.assert_array_equal(rows.vdisp, [np.nan, 250])
    for note, what in zip(notes, ("redshifts", "velocity dispersions"), strict=True):
        assert (
            note.startswith(f"1 {what} outside") and f"a has {float(value):g}" in note
        )


@pytest.mark.parametrize("value", [*NEVER, "nan", ""])
def test_a_placeholder_for_the_noise_is_as_none(folder, value):
    without = sources_of(folder)[1]
    table_of(
        folder / "sources.csv",
        SOURCE_HEAD + ",noise_var",
        f"{SOURCE_ROWS[0]},{value}",
        SOURCE_ROWS[1] + ",",
    )
    ids, sources, _, notes = sources_of(folder)
    assert ids == ("s1", "s2")
    np.testing.assert_array_equal(sources.image, without.image)
    assert np.isfinite(sources.flux).all()
    assert [("noise variances" in n and "s1 has " in n) for n in notes] == [True] * (
        value not in ("nan", "")
    )


def test_a_noise_that_the_stamp_cannot_have_is_unknown():
    plane = source_plane(0)
    assert plain._noise(plane, 1e-4) == pytest.approx(0.01)
    assert plain._noise(plane, 2 * plane.var()) > 0  # estimated too high
    assert np.isnan([plain._noise(plane, v) for v in (98.0, 1e4, np.nan)]).all()


@pytest.mark.parametrize("blank", ["", "--", "null", " N/A"])
def test_a_blank_id_or_file_leaves_its_row_out_and_names_it(tmp_path, blank):
    notes = []
    rows = ["a,a.fits,0.4,250", f"b,{blank},0.5,250", f"{blank},c.fits,0.6,250"]
    found = _plain_tables.lenses(table_of(tmp_path / "l.csv", LENS_HEAD, *rows), notes)
    assert found.id.tolist() == ["a"] and found.file == [tmp_path / "a.fits"]
    assert found.z.tolist() == [0.4]
    assert notes == [
        "lens b is left out: its file is blank",
        "row 3 of l.csv is left out: its id is blank",
    ]
    with pytest.raises(ValueError, match="no lens has an id and a file: row 1 of"):
        path = table_of(tmp_path / "l.csv", LENS_HEAD, rows[2])
        _plain_tables.lenses(path, [])


def test_a_blank_psf_is_given_by_the_id(folder):
    rows = ["007,lenses/a.fits,psfs/two.fits", "b,lenses/b.fits,", "c,lenses/c.fits,--"]
    table_of(folder / "lenses.csv", "id,file,psf", *rows)
    notes = []
    names, psfs = psfs_of(folder)
    _, lenses = plain._read_lenses(folder / "lenses.csv", SURVEY, names, psfs, notes)
    assert lenses.psf[0] == names.index("two.fits")
    assert notes == ["2 lenses whose psf is blank are given one of 2 PSFs by its id"]


def test_other_formats_of_the_tables_make_the_same_catalogue(folder, good):
    table = Table.read(folder / "lenses.csv", converters={"id": str})
    (folder / "lenses.csv").unlink()
    data = {name: table[name].tolist() for name in table.colnames}
    pq.write_table(pa.table(data), folder / "lenses.parquet")
    text = "\ufeff" + SOURCES.replace(",", "\t").replace("\n", "\r\n")
    (folder / "sources.csv").unlink()
    (folder / "sources.tsv").write_bytes(text.encode())
    plain.check(folder)
    _, listing = plain.read(folder, SURVEY)
    assert listing.fingerprint == good[1].fingerprint
    assert listing.notes == good[1].notes


def test_two_tables_of_one_name_are_refused(folder):
    (folder / "lenses.fits").write_bytes(b"")
    for way in (plain.check, lambda folder: plain.read(folder, SURVEY)):
        with pytest.raises(ValueError, match="has lenses.csv and lenses.fits: keep"):
            way(folder)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a,a.fits,0.4"], "row 1 has 3 cells, the heading has 4"),
        (["1.2e18,a.fits,0.4,250"], "column id holds floats"),
        (["a,a.fits,high,250"], "column z has 'high' in row 1"),
        ([], "lists no objects"),
    ],
)
def test_a_table_that_says_too_little_is_refused(tmp_path, rows, words):
    path = table_of(tmp_path / "lenses.csv", LENS_HEAD, *rows)
    with pytest.raises(ValueError, match=f"lenses.csv.*{words}"):
        _plain_tables.lenses(path, [])


def test_each_warning_of_the_lenses_is_counted(folder):
    for k, name in enumerate("ab"):
        planes = lens_planes(k)
        for plane in planes.values():
            plane[0] = 0
        save(folder / f"lenses/{name}.fits", planes, 0.168)
    notes = _said(folder, SURVEY, 0)
    assert any(note.startswith("2 of 3 lenses: ") for note in notes)


# --- stamps ---------------------------------------------------------------------------


def test_a_source_may_come_with_other_bands_beside_its_own(folder):
    planes = {"F606W": np.ones((41, 41)), "F814W": source_plane(1)}
    before = sources_of(folder)[1].image[0]
    save(folder / "sources/s1.fits", planes, 0.03)
    np.testing.assert_array_equal(sources_of(folder)[1].image[0], before)


def test_a_stamp_without_a_galaxy_or_with_nan_is_no_source(folder):
    with pytest.raises(ValueError, match="not finite"):
        plain.isolate(np.full((41, 41), np.nan), 0.01)
    with pytest.raises(ValueError, match="no galaxy stands out"):
        plain.isolate(np.zeros((41, 41)), 0.01)
    with pytest.raises(ValueError, match="no galaxy stands at its middle"):
        plain.isolate(gaussian(41, 2.0, 16, 16), 0.01)


def test_a_neighbour_and_the_noise_around_do_not_stay_in_the_stamp():
    both = source_plane(0, n=81) + 3 * gaussian(81, 2.0, 30, 28)
    alone = plain.isolate(both, 0.01)
    y, x = np.indices(alone.shape) - alone.shape[0] // 2
    assert alone.shape[0] % 2 == 1 and (alone[np.hypot(x, y) > 20] == 0).all()
    np.testing.assert_allclose(alone.sum(), gaussian(81, 3.0).sum(), rtol=0.02)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("lenses.csv", "id,file", "id,filename", "no column 'file'; it has filename"),
        ("sources.csv", "file,z,", "file,zspec,", "no column 'z'; it has"),
        ("lenses.csv", "b,lenses/b", "c,lenses/b", "lists the id 'c' more than once"),
        ("lenses.csv", LENSES[19:], "", "lists no objects"),
        ("lenses.csv", ".fits", ".gone", "no lens galaxy can be read"),
        ("sources.csv", "hsc_g", "hsc_gg", "no column 'hsc_g'; it has hsc_gg"),
    ],
)
def test_a_broken_table_is_refused_with_the_remedy(folder, file, old, new, words):
    edit(folder / file, old, new)
    with pytest.raises(ValueError, match=words) as caught:
        plain.read(folder, SURVEY)
    assert str(folder / file) in str(caught.value)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (np.where(gaussian(21, 1.8) > 0.9, np.nan, 1.0), "finite"),
        (gaussian(21, 1.8, 8, 0), "off centre"),
        (-gaussian(21, 1.8), "positive sum"),
    ],
)
def test_a_broken_psf_is_refused_by_its_name(folder, kernel, words):
    save(folder / "psfs/two.fits", dict.fromkeys("GRIZ", kernel), 0.168)
    with pytest.raises(ValueError, match=words) as caught:
        psfs_of(folder)
    assert "two.fits" in str(caught.value)


def test_a_psf_that_is_named_must_be_there(folder):
    with pytest.raises(ValueError, match="lens 007 names the PSF none.fits"):
        plain._psf_of("007", "psfs/none.fits", ["one.fits"])
    assert plain._psf_of("x", "b.fits", ["a.fits", "b.fits"]) == 1


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("lenses.csv", "give a folder with"),
        ("sources.csv", "another folder for the sources"),
    ],
)
def test_a_folder_without_a_part_is_refused_at_once(folder, missing, remedy):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"has no {missing}: .*{remedy}"):
        plain.check(folder)
    with pytest.raises(ValueError, match="is no folder"):
        plain.check(folder / "nowhere")


def test_sources_may_come_from_another_folder(folder, whole, good):
    (folder / "sources.csv").unlink()
    catalogue, listing = plain.read(folder, SURVEY, source_folder=whole)
    assert listing.source_id == good[1].source_id
    np.testing.assert_array_equal(catalogue.sources.image, good[0].sources.image)


def test_without_psfs_the_surveys_seeing_is_drawn_and_said_so(folder):
    shutil.rmtree(folder / "psfs")
    catalogue, listing = plain.read(folder, SURVEY)
    assert any("PSFs of HSC's seeing are drawn" in note for note in listing.notes)
    psfs = np.asarray(catalogue.psfs)
    np.testing.assert_allclose(psfs.sum((1, 2)), 1, rtol=1e-4)
    # pixels above half of the peak: the area of a disc as wide as the seeing
    area = (psfs > psfs.max((1, 2), keepdims=True) / 2).sum((1, 2)) * 0.168**2
    width = 2 * np.sqrt(area.mean(0) / np.pi)
    np.testing.assert_allclose(width, SURVEY.fwhm, rtol=0.08)


def test_a_psf_on_other_pixels_is_refused(folder):
    save(folder / "psfs/two.fits", psf_planes(), 0.2)
    with pytest.raises(ValueError, match="two.fits: pixels of 0.2 arcsec, HSC's"):
        psfs_of(folder)


def test_other_surveys_take_hscs_magnitudes_where_they_have_none(folder, good):
    notes = []
    des = DES._replace(image_size=SURVEY.image_size)
    _, sources, _ = plain._read_sources(folder / "sources.csv", des, notes)
    assert notes == ["sources have HSC's magnitudes in DES's bands"]
    np.testing.assert_allclose(sources.mag, good[0].sources.mag, rtol=1e-6)
    ratio = np.asarray(sources.flux) / np.asarray(good[0].sources.flux)
    np.testing.assert_allclose(ratio, 10 ** (0.4 * 3), rtol=1e-5)
    _, sources, _ = plain._read_sources(folder / "sources.csv", EUCLID, notes)
    flux = (10 ** (-0.4 * np.asarray(good[0].sources.mag)))[:, 1:].mean(1)
    np.testing.assert_allclose(sources.mag[:, 0], -2.5 * np.log10(flux), rtol=1e-6)


def test_larger_cutouts_keep_room_to_be_shifted_in(folder, good):
    for k, name in enumerate("abc"):
        planes = {b: np.pad(p, 3, "wrap") for b, p in lens_planes(k).items()}
        save(folder / f"lenses/{name}.fits", planes, 0.168)
    lenses = plain.read(folder, SURVEY, room=3)[0].lenses
    np.testing.assert_array_equal(lenses.image[:, 3:-3, 3:-3], good[0].lenses.image)
    for name in ("mag", "flux", "x", "ex"):
        np.testing.assert_allclose(
            getattr(lenses, name), getattr(good[0].lenses, name), atol=1e-5
        )
    assert any("at least" in n for n in _said(folder, SURVEY, 4))


def _said(folder, survey, room):
    notes = []
    names, psfs = psfs_of(folder)
    try:
        plain._read_lenses(folder / "lenses.csv", survey, names, psfs, notes, room)
    except ValueError as error:
        return [*notes, str(error)]
    return notes


def test_the_order_of_a_table_does_not_move_galaxies_between_folds(good):
    ids = [f"hsc_{k:02d}" for k in range(10)]
    part = dict(zip(ids, split(ids), strict=True))
    assert part == dict(zip(ids[::-1], split(ids[::-1]), strict=True))


def test_real_hsc_cutouts_make_a_catalogue():
    folder = DATA / "hsc"
    if not folder.is_dir():
        pytest.skip(f"no real data in {DATA}: set LENSJAX_DATA")
    catalogue, listing = plain.read(folder, HSC)
    lenses, sources, psfs = catalogue
    assert len(lenses.z) == 10 and np.isnan(lenses.z).all()
    assert lenses.image.shape[1:] == (64, 64, 4) and psfs.shape[0] == 3
    # luminous red galaxies: i of 18 to 20.5, g - r above one
    mag = np.asarray(lenses.mag)
    assert ((mag[:, 2] > 17.5) & (mag[:, 2] < 20.5)).all()
    assert (mag[:, 0] - mag[:, 1] > 0.9).all()
    # the galaxies are up to five pixels off the middle, and are found there
    for image, x, y in zip(lenses.image[..., 2], lenses.x, lenses.y, strict=True):
        row, column = np.unravel_index(np.asarray(image).argmax(), (64, 64))
        assert (
            abs(column - 31.5 - x / 0.168) < 1.2 and abs(row - 31.5 - y / 0.168) < 1.2
        )
    noise = np.asarray(lenses.background) / np.array(HSC.sky_sigma)
    assert ((np.median(noise, 0) > 0.5) & (np.median(noise, 0) < 2)).all()
    assert len(sources.z) >= 40 and listing.source_pixel_scale == 0.03
