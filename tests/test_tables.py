"""Tables on disk: what comes back, and what is refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Longitude, SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked

from lensjax.storage import parquet


@pytest.fixture
def table():
    made = Table(
        {
            "id": ["0000000007", "0000000123"],
            "lens_id": ["hsc_01", "a longer name: \u00e4"],
            "theta_E_arcsec": np.array([1.25, 0.75], np.float32),
            "vdisp_kms": np.array([np.nan, 280.0]),
            "n_images": np.array([2, 4], np.int32),
            "z_lens_drawn": np.array([True, False]),
        },
        meta={"counts": {"proposed": 1051, "accepted": 2}, "catalogue": "a folder"},
    )
    made["theta_E_arcsec"].unit = "arcsec"
    made["vdisp_kms"].unit = "km/s"
    made["vdisp_kms"].description = "velocity dispersion"
    return made


def test_a_table_comes_back_with_its_types_units_and_meta(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    found = parquet.read(out)
    assert found.colnames == table.colnames and found.meta == table.meta
    for name in table.colnames:
        np.testing.assert_array_equal(found[name], table[name])
        if table[name].dtype.kind != "U":
            assert found[name].dtype == table[name].dtype
        assert found[name].unit == table[name].unit
        assert found[name].description == table[name].description
    assert found["vdisp_kms"].unit == u.km / u.s
    assert list(tmp_path.iterdir()) == [out]  # nothing temporary is left


def test_other_programs_read_plain_columns_with_units(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    plain = pq.read_table(out)
    assert plain.column("id").to_pylist() == ["0000000007", "0000000123"]
    assert plain.schema.field("vdisp_kms").metadata[b"unit"] == b"km / s"
    assert json.loads(plain.schema.metadata[b"lensjax"])["catalogue"] == "a folder"


def test_an_empty_table_comes_back_empty(tmp_path, table):
    out = tmp_path / "none.parquet"
    parquet.write(table[:0], out)
    found = parquet.read(out)
    assert len(found) == 0 and found.colnames == table.colnames


def test_nothing_is_overwritten_unasked(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="exists; give another name"):
        parquet.write(table[:1], out)
    assert out.read_bytes() == before
    parquet.write(table[:1], out, overwrite=True)
    assert len(parquet.read(out)) == 1


def test_a_write_that_fails_leaves_the_old_table_and_no_rubbish(
    tmp_path, table, monkeypatch
):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    before = out.read_bytes()

    def broken(data, path):
        path.write(b"half a table")
        raise OSError("disk full")

    monkeypatch.setattr(parquet.pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        parquet.write(table, out, overwrite=True)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


KINDS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?", "S3"]
KINDS += ["U3", "O", ">i2", ">i4", ">u8", ">f4", ">f8", "M8[s]", "M8[D]", "m8[ms]"]


def of_kind(kind):
    """Three cells."""
    if kind == "O":
        return np.array(["a", "", "\u00e4"], object)
    return np.array([0, 1, 1] if kind == "?" else [7, 0, 100]).astype(kind)


def cells(column):
    """A column's cells, None where masked."""
    return [None if cell is np.ma.masked else cell for cell in column]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # astropy's float16
@pytest.mark.parametrize("mask", [None, [0, 1, 0], [1, 1, 1]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_comes_back_as_it_was(tmp_path, kind, mask):
    made = Table()
    made["a"] = (
        of_kind(kind) if mask is None else MaskedColumn(of_kind(kind), mask=mask)
    )
    for rows in (3, 0):
        out = tmp_path / f"{rows}.parquet"
        parquet.write(made[:rows], out)
        found = parquet.read(out)["a"]
        assert len(found) == rows
        assert cells(found) == cells(made["a"][:rows])
        if kind[0] not in "UO":  # text has no width
            assert found.dtype == made["a"].dtype.newbyteorder("=")
        if mask and rows:
            assert found.mask.tolist() == [bool(m) for m in mask]
            below = np.asarray(found)[1]
            assert not below or below != below  # zero, "" or nan: not what was there
        else:
            assert not np.ma.is_masked(found)


def test_masked_cells_are_nulls_to_other_programs_and_nan_is_nan(tmp_path):
    out = tmp_path / "a.parquet"
    z = MaskedColumn([0.5, 0.7, np.nan], mask=[0, 1, 0], unit="km")
    n = MaskedColumn([2, 4, 7], mask=[0, 0, 1])
    parquet.write(Table({"z": z, "n": n}), out)
    plain = pq.read_table(out)
    first, hidden, unknown = plain["z"].to_pylist()
    assert first == 0.5 and hidden is None and unknown != unknown
    assert plain["n"].to_pylist() == [2, 4, None] and str(plain["n"].type) == "int64"
    found = parquet.read(out)
    assert found["z"].unit == u.km and found["z"].mask.tolist() == [False, True, False]
    np.testing.assert_array_equal(np.asarray(found["z"]), [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(found["z"].filled(), [0.5, np.nan, np.nan])
    again = tmp_path / "again.parquet"
    parquet.write(found, again)
    assert str(pq.read_table(again)) == str(plain)  # nan is not equal to itself


def test_quantities_keep_their_unit(tmp_path):
    made = QTable(
        {
            "v": [1.0, 2.0] * u.km / u.s,
            "ra": Longitude([1.0, 2.0], u.deg),
            "d": Masked([1.0, 2.0], mask=[False, True]) * u.Mpc,
        }
    )
    parquet.write(made, tmp_path / "a.parquet")
    found = parquet.read(tmp_path / "a.parquet")
    assert [found[name].unit for name in "v ra d".split()] == [u.km / u.s, u.deg, u.Mpc]
    assert found["v"].tolist() == [1, 2] and found["d"].tolist() == [1, None]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (["a", None, ""], ["a", None, ""]),
        (["a", np.nan, "b"], ["a", None, "b"]),
        ([1, None, 3], [1, None, 3]),
        ([2**63 + 5, None], [2**63 + 5, None]),
        ([True, None], [True, None]),
        ([0.5, None], [0.5, None]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_none_among_objects_is_a_null(tmp_path, objects, expected):
    made = Table()
    made["a"] = np.array(objects, object)
    parquet.write(made, tmp_path / "a.parquet")
    assert parquet.read(tmp_path / "a.parquet")["a"].tolist() == expected


@pytest.mark.parametrize(
    "column",
    [
        Time(["2020-01-01", "2020-01-02"]),
        SkyCoord([1, 2] * u.deg, [3, 4] * u.deg),
        np.zeros((2, 3)),
        np.zeros(2, complex),
        np.zeros(2, "f8,i4"),
        np.array([1, "a"], object),
        np.array([[1], {}], object),
        np.array([{"a": 1}, None], object),
    ],
    ids=lambda column: f"{type(column).__name__}",
)
def test_what_cannot_be_stored_is_refused_by_name_and_leaves_nothing(tmp_path, column):
    made = Table({"id": ["a", "b"]})
    made["strange"] = column
    with pytest.raises(ValueError, match="column strange "):
        parquet.write(made, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_meta_may_hold_numpys_numbers_but_no_objects(tmp_path):
    made = Table({"a": [1]}, meta={"n": np.int64(3), "x": np.arange(2.0)})
    parquet.write(made, tmp_path / "a.parquet")
    assert parquet.read(tmp_path / "a.parquet").meta == {"n": 3, "x": [0.0, 1.0]}
    made.meta["when"] = Time("2020-01-01")
    with pytest.raises(ValueError, match="meta cannot be written .*Time"):
        parquet.write(made, tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()


def test_a_file_that_write_did_not_make_is_refused(tmp_path, table):
    parquet.write(table, tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for name, content in (("half", whole[:-100]), ("text", b"id,z"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is damaged, or no Parquet"):
            parquet.read(tmp_path / name)
    pq.write_table(pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(
        None), tmp_path / "other")  # fmt: skip
    with pytest.raises(ValueError, match="other was not written by lensjax"):
        parquet.read(tmp_path / "other")
    with pytest.raises(ValueError, match="is a folder"):
        parquet.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        parquet.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("systems.csv", "must end in .parquet"),
        ("nowhere/systems.parquet", "make it first"),
        ("folder.parquet", "is a folder"),
    ],
)
def test_a_place_that_cannot_hold_a_table_is_refused(tmp_path, table, name, words):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(ValueError, match=words):
        parquet.write(table, tmp_path / name)
