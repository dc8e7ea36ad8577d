"""Tables of redshifts: what is used, what is left out, and what is refused."""

import hudf_mosaic
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from lensjax.catalogue import redshifts
from lensjax.catalogue.hudf import read_redshifts

RA, DEC = 53.16, -27.79
VIZIER = ("ID", "RAJ2000", "DEJ2000", "zMuse", "Confid")


def row(name, z=1.5, confidence=3, ra=RA, dec=DEC):
    return [str(name), ra, dec, z, confidence]


def read(path, rows, names=hudf_mosaic.COLUMNS):
    return read_redshifts(hudf_mosaic.write_table(path, rows, names))


@pytest.mark.parametrize("kind", ["csv", "tsv", "fits", "ecsv"])
def test_all_formats_say_the_same(tmp_path, kind):
    rows = [row(7, 1.25), row(12345678901234567, 2.5, 2), row(9, 3.0, 1)]
    found, counts = read(tmp_path / f"z.{kind}", rows)
    assert found.id.tolist() == ["7", "12345678901234567"]
    assert found.id.dtype.kind == "U"
    np.testing.assert_array_equal(found.z, [1.25, 2.5])
    np.testing.assert_array_equal(found.ra, RA)
    np.testing.assert_array_equal(found.dec, DEC)
    assert counts == {"confidence below 2, or unknown": 1}


@pytest.mark.parametrize(
    "names",
    [
        ("muse_id", "ra", "dec", "z", "confid"),
        ("ID", "RAJ2000", "DEJ2000", "zMuse", "Conf"),
        ("MUSE_ID", "RAdeg", "DEdeg", "Z_MUSE", "CONFID"),
        ("name", "RA", "DEC", "zspec", "ZCONF"),
    ],
)
def test_names_of_several_archives_are_known(tmp_path, names):
    found, counts = read(tmp_path / "z.csv", [row(1), row(2, confidence=1)], names)
    assert found.id.tolist() == ["1"] and len(counts) == 1


@pytest.mark.parametrize("z", [0, -1, -9.999, "nan", "", "--", "null"])
def test_rows_without_a_redshift_are_left_out_and_counted(tmp_path, z):
    found, counts = read(tmp_path / "z.csv", [row(1, z), row(2), row(3)])
    assert found.id.tolist() == ["2", "3"]
    assert counts == {"redshift unknown, or zero or less": 1}


@pytest.mark.parametrize("kind", ["csv", "tsv", "fits", "ecsv"])
@pytest.mark.parametrize("z", [99, 99.99, 999, 1e20, -99, -1e30, 9.999])
def test_placeholders_are_no_redshifts_in_any_format(tmp_path, kind, z):
    found, counts = read(tmp_path / f"z.{kind}", [row(1, float(z)), row(2)])
    assert found.id.tolist() == ["2"]
    above = z > 12
    reason = "redshift above 12" if above else "redshift unknown, or zero or less"
    assert counts == {reason: 1}


@pytest.mark.parametrize("confidence", [99, -99, 999, 1e20])
def test_placeholders_are_no_confidence(tmp_path, confidence):
    rows = [row(1, confidence=float(confidence)), row(2, confidence=3.0)]
    found, counts = read(tmp_path / "z.csv", rows)
    assert found.id.tolist() == ["2"]
    assert counts == {"confidence below 2, or unknown": 1}


@pytest.mark.parametrize(
    "place", [(-99, -99), (99, 99), (-9999, DEC), (RA, 99), (0, 0)]
)
def test_placeholders_are_no_positions(tmp_path, place):
    ra, dec = map(float, place)
    found, counts = read(tmp_path / "z.csv", [row(1, ra=ra, dec=dec), row(2)])
    assert found.id.tolist() == ["2"] and counts == {"without a position": 1}
    text = [row(1, ra="-99", dec="-99"), row(2, ra="03 32 39", dec="-27 47 29")]
    found, counts = read(tmp_path / "y.csv", text)
    assert found.id.tolist() == ["2"] and counts == {"without a position": 1}


def test_every_other_reason_is_counted_too(tmp_path):
    rows = [
        row(1),
        row(2, confidence=""),
        row("", 1.0),
        row(4, ra=""),
        row(5, 0.5),
        row(5, 0.505),
        row(6, 0.5),
        row(6, 2.5),
        row(6, 2.5),
        row(7, 0, 1),
    ]
    found, counts = read(tmp_path / "z.csv", rows)
    assert found.id.tolist() == ["1", "5"]
    np.testing.assert_array_equal(found.z, [1.5, 0.5])
    assert counts == {
        "without an id": 1,
        "without a position": 1,
        "redshift unknown, or zero or less": 1,
        "confidence below 2, or unknown": 1,
        "the same id and redshift again": 1,
        "ids with more than one redshift": 3,
    }


def test_an_id_whose_other_row_cannot_be_used_is_not_torn(tmp_path):
    found, counts = read(tmp_path / "z.csv", [row(1, 2.0, 1), row(1, 3.0, 3)])
    assert found.z.tolist() == [3.0] and counts == {"confidence below 2, or unknown": 1}


def test_masked_cells_are_blank(tmp_path):
    table = Table(
        {
            "ID": [1, 2, 3],
            "RA": [RA] * 3,
            "DEC": [DEC] * 3,
            "z": MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False]),
            "CONFID": MaskedColumn([3, 3, 3], mask=[False, False, True]),
        }
    )
    for name in ("z.fits", "z.ecsv"):
        table.write(tmp_path / name)
        found, counts = read_redshifts(tmp_path / name)
        assert found.id.tolist() == ["1"] and sum(counts.values()) == 2, name


def test_exactly_fifty_rows_are_remarked_upon(tmp_path):
    rows = [row(k) for k in range(50)]
    assert read(tmp_path / "a.csv", rows)[1] == {redshifts.CUT_SHORT: 50}
    assert read(tmp_path / "b.tsv", rows, VIZIER)[1] == {redshifts.CUT_SHORT: 50}
    assert read(tmp_path / "c.csv", rows[1:])[1] == {}


def test_a_table_without_confidence_is_taken_and_says_so(tmp_path):
    rows = [r[:4] for r in (row(1), row(2))]
    found, counts = read(tmp_path / "z.csv", rows, hudf_mosaic.COLUMNS[:4])
    assert len(found.z) == 2 and counts == {redshifts.UNKNOWN_CONFIDENCE: 2}


def test_sexagesimal_positions_are_converted(tmp_path):
    rows = [row(1, ra="03 32 39.0", dec="-27 47 29.1"), row(2, ra="", dec="-00 30 00")]
    found, counts = read(tmp_path / "z.tsv", rows, VIZIER)
    np.testing.assert_allclose(found.ra, [53.1625])
    np.testing.assert_allclose(found.dec, [-27.791417], atol=1e-6)
    assert counts == {"without a position": 1}
    rows = [row(1, ra="03:32:39.0", dec="-00:30:00")]
    found, _ = read(tmp_path / "z.csv", rows)
    np.testing.assert_allclose([found.ra, found.dec], [[53.1625], [-0.5]])


@pytest.mark.parametrize(
    ("ra", "dec", "words"),
    [
        (RA / 15, DEC, "ra in hours. Multiply it by 15"),
        (DEC, RA, "ra and dec swapped"),
        (DEC + 360, RA, "ra and dec swapped"),
        (10.0, 120.0, "ra and dec swapped"),
        (400.0, 10.0, "0 to 360"),
    ],
)
def test_positions_that_cannot_be_are_refused_with_the_remedy(tmp_path, ra, dec, words):
    with pytest.raises(ValueError, match=words) as caught:
        read(tmp_path / "z.csv", [row(k, ra=ra, dec=dec) for k in range(3)])
    assert "z.csv" in str(caught.value)


def test_another_field_and_a_negative_right_ascension_are_taken(tmp_path):
    rows = [row(1, ra=-170.5, dec=2.0), row(2, ra=3.5, dec=2.0)]
    assert read(tmp_path / "z.csv", rows)[0].ra.tolist() == [189.5, 3.5]


def test_a_missing_column_is_named_with_the_closest(tmp_path):
    names = ("MUSE_ID", "RA", "DEC", "Z_MUS", "CONFID")
    with pytest.raises(ValueError, match="no column 'Z_MUSE'; it has Z_MUS"):
        read(tmp_path / "z.csv", [row(1)], names)
    with pytest.raises(ValueError, match="column Z_MUSE has 'high' in row 2"):
        read(tmp_path / "b.csv", [row(1), row(2, "high")])
    with pytest.raises(ValueError, match="column RA has '03 32 x' in row 2"):
        rows = [row(1, ra="03 32 39"), row(2, ra="03 32 x")]
        read(tmp_path / "c.csv", rows)


def test_a_table_without_rows_is_valid_and_empty(tmp_path):
    for name in ("z.csv", "z.tsv"):
        found, counts = read(tmp_path / name, [])
        assert len(found.id) == len(found.z) == 0 and counts == {}


@pytest.mark.parametrize("name", ["z.csv", "z.tsv"])
def test_a_ragged_row_is_refused_with_its_number(tmp_path, name):
    path = hudf_mosaic.write_table(tmp_path / name, [row(1), row(2)[:3]], VIZIER)
    with pytest.raises(ValueError, match=f"{name}.*row 2 has 3 cells"):
        read_redshifts(path)


@pytest.mark.parametrize("name", ["z.csv", "z.tsv", "z.fits", "z.ecsv"])
def test_what_is_no_table_is_refused_by_its_name(tmp_path, name):
    for text in ("", "<html>please log in</html>\n"):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_redshifts(tmp_path / name)
    with pytest.raises(ValueError, match="nowhere.csv"):
        read_redshifts(tmp_path / "nowhere.csv")
