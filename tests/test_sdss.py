"""Tables of SDSS spectra: which galaxies can be used, and which one is which."""

import hsc_archive as archive
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table

from lensjax.catalogue import sdss, user_tables

BIG = 11263485620182163456  # plate 10004: more than a signed 64-bit integer holds


def rows(n=3, **changes):
    """A table of n good galaxies, with columns changed."""
    targets = [archive.Target(0, 150 + 0.01 * k, 2.0) for k in range(n)]
    table = Table(
        {
            "specObjID": [str(BIG + k) for k in range(n)],
            "ra": [target.ra for target in targets],
            "dec": [target.dec for target in targets],
            "z": np.linspace(0.3, 0.6, n),
            "zErr": np.full(n, 1e-4),
            "zWarning": np.zeros(n, int),
            "velDisp": np.linspace(180.0, 320.0, n),
            "velDispErr": np.full(n, 15.0),
        }
    )
    for name, value in changes.items():
        table[name] = value
    return table


def save(path, table, lead=""):
    table.write(path, format="ascii.csv", overwrite=True)
    path.write_text(lead + path.read_text())
    return path


def write_parquet(table, path):
    pq.write_table(pa.table({n: table[n].tolist() for n in table.colnames}), path)


WRITERS = {
    "csv": lambda table, path: save(path, table),
    "casjobs.csv": lambda table, path: save(path, table, "#Table1\n"),
    "bom.csv": lambda table, path: save(path, table, "\ufeff"),
    "ecsv": lambda table, path: table.write(path),
    "fits": lambda table, path: table.write(path),
    "parquet": lambda table, path: write_parquet(table, path),
}


# --- reading --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_spectra(tmp_path, suffix):
    table = rows()
    WRITERS[suffix](table, tmp_path / f"a.{suffix}")
    spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
    assert counts == {}
    assert list(spectra.id) == [str(BIG + k) for k in range(3)]
    for name in ("ra", "dec", "z"):
        np.testing.assert_allclose(getattr(spectra, name), table[name], rtol=1e-12)
        assert getattr(spectra, name).dtype == np.float64
    np.testing.assert_allclose(spectra.vdisp, table["velDisp"])


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet"])
def test_64_bit_integers_keep_every_digit(tmp_path, suffix):
    table = rows(specObjID=np.array([BIG, BIG + 1, BIG + 2], np.uint64))
    if suffix == "parquet":
        data = pa.table({name: np.asarray(table[name]) for name in table.colnames})
        pq.write_table(data, tmp_path / "a.parquet")
    else:
        table.write(tmp_path / f"a.{suffix}")
    spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
    assert list(spectra.id) == [str(BIG + k) for k in range(3)] and counts == {}


def test_an_integer_id_beside_blank_ones_keeps_every_digit(tmp_path):
    data = {name: list(rows()[name]) for name in rows().colnames}
    data["specObjID"] = pa.array([BIG, None, BIG + 2], pa.uint64())
    pq.write_table(pa.table(data), tmp_path / "a.parquet")
    spectra, counts = sdss.read(tmp_path / "a.parquet")
    assert list(spectra.id) == [str(BIG), str(BIG + 2)]
    assert counts == {"with a blank id, position or zWarning": 1}


@pytest.mark.parametrize("ids", [[1.1e19, 1.2e19, 1.3e19], ["1.126e+19", "7", "8"]])
def test_ids_that_went_through_floats_are_refused(tmp_path, ids):
    table = rows(specObjID=ids)
    for path in (tmp_path / "a.csv", tmp_path / "a.fits"):
        table.write(path)
        with pytest.raises(ValueError, match="floats, which have lost .* as text"):
            sdss.read(path)


def test_columns_go_by_name_in_any_case_and_by_those_of_a_specobj_file(tmp_path):
    names = {"specObjID": "SPECOBJID", "ra": "PLUG_RA", "dec": "PLUG_DEC", "z": "Z"}
    names |= {"zWarning": "ZWARNING", "velDisp": "VDISP", "velDispErr": "VDISP_ERR"}
    table = rows()
    for old, new in names.items():
        table.rename_column(old, new)
    table["SPECOBJID"] = [f"  {text}  " for text in table["SPECOBJID"]]
    table.write(tmp_path / "a.fits")
    spectra, _ = sdss.read(tmp_path / "a.fits")
    assert list(spectra.id) == [str(BIG + k) for k in range(3)]
    np.testing.assert_allclose(spectra.vdisp, [180, 250, 320])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("velDisp", "velDips", "no column 'velDisp'; it has velDips"),
        ("specObjID", "objID", "no column 'specObjID'; it has objID"),
        ("z", "redshift", "no column 'z'; it has"),
    ],
)
def test_a_missing_column_names_the_closest(tmp_path, old, new, words):
    table = rows()
    table.rename_column(old, new)
    with pytest.raises(ValueError, match=words) as caught:
        sdss.read(save(tmp_path / "a.csv", table))
    assert "a.csv" in str(caught.value)


# --- what is left out -----------------------------------------------------------------

FAILED = "without a fit of the dispersion (velDispErr is 0, negative or blank)"
LOW = "with velDisp below 70 km/s, the instrument's limit"
HIGH = "with velDisp above 600 km/s"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("zWarning", 4, "with zWarning other than 0"),
        ("z", 0.0, "without a positive redshift"),
        ("z", -9.999, "without a positive redshift"),
        ("z", np.nan, "without a positive redshift"),
        ("velDispErr", 0.0, FAILED),
        ("velDispErr", -4.0, FAILED),
        ("velDispErr", np.nan, FAILED),
        ("velDispErr", np.inf, FAILED),
        ("velDisp", np.nan, FAILED),
        ("velDisp", 0.0, LOW),
        ("velDisp", 69.9, LOW),
        ("velDisp", 850.0, HIGH),
        ("velDisp", 600.1, HIGH),
        ("ra", np.nan, "with a blank id, position or zWarning"),
        ("specObjID", "", "with a blank id, position or zWarning"),
        ("specObjID", str(BIG), "with an id that stood before"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "fits"])
def test_what_cannot_be_used_is_left_out_and_counted(
    tmp_path, suffix, name, value, reason
):
    table = rows()
    table[name][1] = value
    WRITERS[suffix](table, tmp_path / f"a.{suffix}")
    spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
    assert counts == {reason: 1}
    assert list(spectra.id) == [str(BIG), str(BIG + 2)]
    np.testing.assert_allclose(spectra.vdisp, [180, 320])


PLACE = "with a blank id, position or zWarning"
UNKNOWN = "with a velDisp or velDispErr that stands for unknown, such as 99 or 999"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(({"z": z}, "with a redshift above 12") for z in (99, 99.99, 999, 1e20)),
        *(({"z": z}, "without a positive redshift") for z in (-99, 9.999, -1e30)),
        *(({"velDispErr": e}, UNKNOWN) for e in (99, 99.99, 999, 9999, 1e20)),
        *(({"velDispErr": e}, FAILED) for e in (-99, -9.999, -1e30)),
        *(({"velDisp": v}, UNKNOWN) for v in (99, 99.9)),
        *(({"velDisp": v}, HIGH) for v in (999, 9999, 1e20)),
        *(({"velDisp": v}, LOW) for v in (-99, -9999, -9.999)),
        *(({"ra": v, "dec": v}, PLACE) for v in (-99, 99, -9999, 1e20, 0)),
        ({"dec": 99.0}, PLACE),
        ({"ra": -9999.0}, PLACE),
        ({"zWarning": -99}, "with zWarning other than 0"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "fits"])
def test_placeholders_are_left_out_and_counted(tmp_path, suffix, change, reason):
    table = rows()
    for name, value in change.items():
        table[name][1] = value
    WRITERS[suffix](table, tmp_path / f"a.{suffix}")
    spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
    assert counts == {reason: 1}
    assert list(spectra.id) == [str(BIG), str(BIG + 2)]


@pytest.mark.parametrize("warning", [[False, True, False], ["False", "true", "F"]])
def test_a_warning_may_be_true_or_false(warning):
    spectra, counts = sdss.read(rows(zWarning=warning))
    assert counts == {"with zWarning other than 0": 1} and len(spectra.id) == 2


def test_big_endian_columns_of_a_table_in_memory_are_read():
    table = rows(specObjID=np.array([BIG, BIG + 1, BIG + 2], ">u8"))
    for name in ("ra", "dec", "z", "velDisp"):
        table[name] = np.asarray(table[name]).astype(">f4")
    spectra, counts = sdss.read(table)
    assert counts == {} and spectra.id.tolist() == [str(BIG + k) for k in range(3)]
    assert spectra.z.dtype.isnative and list(sdss.match([150.01], [2.0], spectra)) == [
        1
    ]


def test_the_limits_themselves_can_be_used(tmp_path):
    spectra, counts = sdss.read(rows(velDisp=[70.0, 600.0, 200.0]))
    assert counts == {} and len(spectra.id) == 3


def test_a_row_counts_for_one_reason_only(tmp_path):
    table = rows(zWarning=[4, 4, 0], velDisp=[850.0, 200.0, 850.0])
    assert sdss.read(table)[1] == {"with zWarning other than 0": 2, HIGH: 1}


@pytest.mark.parametrize("word", ["", "null", "NaN", " -- "])
def test_blank_cells_and_masked_ones_are_missing_values(tmp_path, word):
    path = save(tmp_path / "a.csv", rows())
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    cells[6] = word
    path.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]))
    assert sdss.read(path)[1] == {FAILED: 1}


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet"])
def test_masked_cells_are_missing_values(tmp_path, suffix):
    table = rows(velDisp=MaskedColumn([180.0, 200.0, 320.0], mask=[0, 1, 0]))
    if suffix == "parquet":
        write_parquet(table, tmp_path / "a.parquet")
    else:
        table.write(tmp_path / f"a.{suffix}")
    spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
    assert counts == {FAILED: 1} and list(spectra.vdisp) == [180, 320]


def test_text_for_a_number_is_named_with_its_row(tmp_path):
    path = save(tmp_path / "a.csv", rows(z=["0.3", "about 1", "0.5"]))
    with pytest.raises(ValueError, match="column z has 'about 1' in row 2"):
        sdss.read(path)


def test_an_empty_table_is_a_valid_empty_answer(tmp_path):
    for suffix, write in WRITERS.items():
        if suffix != "parquet":
            write(rows()[:0], tmp_path / f"a.{suffix}")
            spectra, counts = sdss.read(tmp_path / f"a.{suffix}")
            assert counts == {} and [len(field) for field in spectra] == [0] * 5
    assert list(sdss.match([150.0], [2.0], spectra)) == [-1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>Log in</html>", "no column 'specObjID'"),
        (b"specObjID,ra,ra\n1,2,3\n", "a column stands twice"),
        (b"specObjID,ra\n1,2,3\n", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        sdss.read(tmp_path / "a.csv")
    for name in ("a.fits", "a.parquet"):
        (tmp_path / name).write_bytes(b"rubbish" * 100)
        with pytest.raises(ValueError, match=f"{name} cannot be read as a table"):
            sdss.read(tmp_path / name)
    with pytest.raises(ValueError, match="is no file: give"):
        sdss.read(tmp_path / "none.csv")


def test_swapped_positions_are_refused_and_hours_pointed_out(tmp_path):
    table = rows()
    table["ra"], table["dec"] = rows()["dec"], rows()["ra"]
    with pytest.raises(ValueError, match="dec is 150 in row 1: swap ra and dec"):
        sdss.read(table)
    with pytest.raises(ValueError, match="ra is -1 in row 3: give 0 to 360"):
        sdss.read(rows(ra=[150.0, 151.0, -1.0]))
    spectra, counts = sdss.read(rows(ra=[9.8, 10.0, 14.2]))
    assert len(spectra.id) == 3  # a field may lie there
    assert list(counts.values()) == [3] and "multiply them by 15" in list(counts)[0]


@pytest.mark.parametrize("n", [49, 50, 51])
def test_exactly_50_rows_raise_the_question_whether_it_was_cut(n):
    spectra, counts = sdss.read(rows(n))
    assert len(spectra.id) == n
    assert [(k, "VizieR" in text) for text, k in counts.items()] == [(50, True)] * (
        n == 50
    )


# --- matching -------------------------------------------------------------------------


def near(spectra, k, arcsec, angle):
    """Position so far from spectrum k."""
    from astropy import units

    place = SkyCoord(spectra.ra[k], spectra.dec[k], unit="deg")
    return place.directional_offset_by(angle * units.deg, arcsec * units.arcsec)


@pytest.mark.parametrize("dec", [0.0, 60.0, -80.0])
def test_the_nearest_spectrum_within_an_arcsec_is_the_match(dec):
    spectra, _ = sdss.read(rows(dec=[dec, dec, dec + 0.01]))
    for k in range(3):
        for angle in (0, 50, 90, 200):
            inside, outside = (near(spectra, k, r, angle) for r in (0.97, 1.03))
            ra, dec_ = (
                [inside.ra.deg, outside.ra.deg],
                [inside.dec.deg, outside.dec.deg],
            )
            assert list(sdss.match(ra, dec_, spectra)) == [k, -1]
            assert list(sdss.match(ra, dec_, spectra, radius=1.1)) == [k, k]


def test_of_two_spectra_in_reach_the_nearer_one_counts():
    spectra, _ = sdss.read(rows(ra=[150.0, 150.0002, 151.0], dec=[2.0, 2.0, 2.0]))
    found = sdss.match([150.00005, 150.00015], [2.0, 2.0], spectra)
    assert list(found) == [0, 1]


def test_the_match_goes_around_the_zero_of_right_ascension():
    spectra, _ = sdss.read(rows(ra=[359.9999, 0.0001, 180.0]))
    assert list(sdss.match([0.0002, 359.9998], [2.0, 2.0], spectra)) == [1, 0]


def test_an_unknown_position_has_no_match():
    spectra, _ = sdss.read(rows())
    ra, dec = [np.nan, 150.0, 150.01], [2.0, np.nan, 2.0]
    assert list(sdss.match(ra, dec, spectra)) == [-1, -1, 1]
    assert list(sdss.match([np.nan], [np.nan], spectra)) == [-1]
    assert sdss.match([], [], spectra).shape == (0,)


def test_spectra_of_an_archive_find_its_galaxies(tmp_path):
    targets = archive.build(tmp_path, 3, seed=8, side=76)
    path = archive.spectra(tmp_path / "sdss.csv", targets[::-1])
    spectra, counts = sdss.read(path)
    ra, dec = [t.ra for t in targets], [t.dec for t in targets]
    assert counts == {} and list(sdss.match(ra, dec, spectra)) == [2, 1, 0]


def test_ids_that_are_names_are_no_floats():
    names = np.array(["J1000+0200", "12e4", "3C 48", "1e5f", "007"])
    table = user_tables.read(Table({"id": names}))
    assert list(user_tables.texts(table, "id")) == list(names)
